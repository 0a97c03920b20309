// node check.mjs DOCUMENT: is it OpenAPI, and does every example fit the schema beside it?
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv2020 from "ajv/dist/2020.js";
import formats from "ajv-formats";

const file = process.argv[2];
const document = JSON.parse(readFileSync(file, "utf8"));
const faults = [];

// Strict: a misspelt keyword is an error, not a schema that accepts everything.
const ajv = new Ajv2020.default({ strict: true, strictTypes: false, strictRequired: false, allErrors: true });
formats.default(ajv);
ajv.addVocabulary(["openapi", "info", "servers", "security", "tags", "paths", "components"]);
ajv.addSchema(document, "openapi", undefined, false);

const escape = (token) => String(token).replaceAll("~", "~0").replaceAll("/", "~1");
const unescape = (token) => token.replaceAll("~1", "/").replaceAll("~0", "~");
const at = (pointer) => pointer.split("/").slice(1).map(unescape).reduce((node, token) => node?.[token], document);

// The place of what `pointer` leads to, through references.
function follow(pointer) {
  const node = at(pointer);
  return node?.$ref ? follow(node.$ref.slice(1)) : pointer;
}

// A schema's check, or one that finds what is wrong with the schema.
function compile(schema) {
  try {
    return ajv.getSchema("openapi#" + encodeURI(schema)) ?? (() => faults.push(`there is no schema ${schema}`));
  } catch (error) {
    return () => faults.push(`${schema}: ${error.message}`);
  }
}

function fit(place, schema, value) {
  const validate = compile(schema);
  if (!validate(value)) faults.push(`${place}: ${ajv.errorsText(validate.errors)}`);
}

// Every media type of the document, wherever it is: an object with a schema and examples.
function* mediaTypes(node, pointer = "") {
  if (node === null || typeof node !== "object") return;
  if (node.schema && node.examples) yield [node, pointer];
  for (const [key, child] of Object.entries(node)) if (key !== "examples") yield* mediaTypes(child, `${pointer}/${escape(key)}`);
}

function* references(node) {
  if (node === null || typeof node !== "object") return;
  if (typeof node.$ref === "string") yield node.$ref;
  for (const child of Object.values(node)) yield* references(child);
}

async function checkDocument() {
  const result = await new Validator().validate(document);
  for (const error of [result.errors ?? []].flat()) faults.push(error.message ? `${error.instancePath}: ${error.message}` : String(error));
  if (!result.valid && faults.length === 0) faults.push("the document is not valid OpenAPI");
  for (const reference of references(document)) if (at(reference.slice(1)) === undefined) faults.push(`${reference} leads nowhere`);
  for (const name of Object.keys(document.components.schemas)) {
    const schema = `/components/schemas/${name}`;
    const validate = compile(schema);
    if (!validate.schema) validate();
  }
  let examples = 0;
  for (const [media, pointer] of mediaTypes(document)) {
    for (const [name, example] of Object.entries(media.examples)) {
      fit(`${pointer}/examples/${name}`, follow(`${pointer}/schema`), example.value);
      examples++;
    }
  }
  if (examples === 0) faults.push("there are no examples");
  return `OpenAPI ${document.openapi}: ${Object.keys(document.paths).length} paths, ${examples} examples`;
}

const checked = await checkDocument();
for (const fault of faults) console.error(fault);
console.log(`${checked}: ${faults.length} faults`);
process.exit(faults.length === 0 ? 0 : 1);

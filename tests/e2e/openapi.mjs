// Two public validators on the OpenAPI document: of the document itself, and of JSON against its schemas.
//
//     node openapi.mjs TOOLS DOCUMENT document
//     node openapi.mjs TOOLS DOCUMENT instances < lines of {"schema": "#/components/schemas/Problem", "instance": ...}
//
// TOOLS is the directory that holds node_modules. Prints one line of JSON for the document or for each instance:
// [] when it is valid, else the errors.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const [tools, path, what] = process.argv.slice(2);
const require = createRequire(resolve(tools, "package.json"));
const document = JSON.parse(readFileSync(path, "utf8"));

async function checkDocument() {
  const entry = resolve(tools, "node_modules/@seriousme/openapi-schema-validator/index.js");
  const { Validator } = await import(pathToFileURL(entry));
  const result = await new Validator().validate(document);
  return result.valid ? [] : [].concat(result.errors);
}

function checkInstances() {
  const Ajv = require("ajv/dist/2020").default;
  const addFormats = require("ajv-formats").default;
  // OpenAPI's own members stand beside the schemas: not an error. Unknown words anywhere else are.
  const ajv = new Ajv({ allErrors: true, strict: true, strictTypes: false });
  addFormats(ajv);
  for (const word of ["openapi", "info", "servers", "security", "tags", "paths", "components", "externalDocs"]) ajv.addKeyword(word);
  ajv.addSchema(document, "document");
  for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
    const { schema, instance } = JSON.parse(line);
    const validate = ajv.getSchema("document" + schema);
    validate(instance);
    console.log(JSON.stringify(validate.errors ?? []));
  }
}

if (what === "document") console.log(JSON.stringify(await checkDocument()));
else checkInstances();

// Validates the documents of a YAML file against Kubernetes' published schemas: one line for each, exit status 1 if one
// is wrong. kubernetes.mjs TOOLS FILE
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [tools, file] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${tools}/node_modules/${path}`));
const yaml = await load("js-yaml/dist/js-yaml.mjs");
let wrong = 0;
for (const document of yaml.loadAll(readFileSync(file, "utf8"))) {
  try {
    const { [document.kind]: Model } = await load(`kubernetes-models/${document.apiVersion}/${document.kind}.js`);
    new Model(document).validate();
    console.log(`ok ${document.kind} ${document.metadata.name}`);
  } catch (error) {
    wrong++;
    console.log(`WRONG ${document.kind}: ${error.message}`);
  }
}
process.exit(wrong ? 1 : 0);

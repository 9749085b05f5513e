// An ordinary application in Node.js: one client by its defaults, made once, and a write every few milliseconds.
// `node application.mjs LIBRARY HOST:PORT,...`, as application.py. Modules are looked for in the working directory.
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const PACE = 20; // ms between two writes
const [library, endpoints] = process.argv.slice(2);
const nodes = endpoints.split(",").map((one) => ({ host: one.split(":")[0], port: Number(one.split(":")[1]) }));

async function open() {
  if (library === "node-redis") {
    const { createCluster } = require("redis");
    const client = createCluster({ rootNodes: nodes.map(({ host, port }) => ({ url: `redis://${host}:${port}` })) });
    client.on("error", () => {}); // its documentation asks for a listener
    await client.connect();
    return client;
  }
  const found = require(library);
  const client = new found.Cluster(nodes);
  client.on("error", () => {});
  return client;
}

const client = await open();
let ended = false;
process.stdin.on("end", () => { ended = true; });
process.stdin.resume();
for (let number = 1; !ended; number++) {
  let error = "";
  try {
    await client.set(`${library}:${number % 500}`, String(number));
  } catch (trouble) {
    error = `${trouble.constructor.name}: ${trouble.message || (trouble.errors || []).map((one) => one.message).join("; ")}`;
  }
  console.log(JSON.stringify({ at: Date.now() / 1000, error }));
  await new Promise((wake) => setTimeout(wake, PACE));
}
process.exit(0);

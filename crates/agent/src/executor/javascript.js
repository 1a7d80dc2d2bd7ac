const fs = require('fs');
const vm = require('vm');
const path = require('path');
const target = process.argv.pop();
const sent = fs.readFileSync(0);
const end = sent.indexOf(10);
const size = Number(sent.subarray(0, end));
const source = sent.subarray(end + 1, end + 1 + size).toString();
const event = sent.subarray(end + 1 + size).toString();
const main = { exports: {} };
const load = require('module').createRequire(path.join(process.cwd(), 'code.js'));
const wrapped = '(function (require, module, exports) {' + source +
  '\n;return typeof handler === "function" ? handler : undefined;\n})';
const finish = (returned) => {
  const text = JSON.stringify(returned === undefined ? null : returned);
  fs.writeFileSync(target, text === undefined ? 'null' : text);
};
(async () => {
  const run = vm.runInThisContext(wrapped, { filename: '<code>' });
  const declared = run(load, main, main.exports);
  const exported = main.exports.handler || main.exports;
  const handler = declared || (typeof exported === 'function' ? exported : undefined);
  if (!handler) {
    throw new Error('the code defines no handler(event): define one, its return value is the result');
  }
  finish(await handler(event ? JSON.parse(event) : {}));
})().catch((error) => {
  process.stderr.write((error && error.stack ? error.stack : String(error)) + '\n');
  process.exitCode = 1;
});

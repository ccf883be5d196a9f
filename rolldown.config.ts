/**
 * Joins the modules that `import 'escapement'` loads into one file: loading eighty small ones takes three times as long. Each of them stays where it
 * is and exports the same from the joined file, so that the other entry points, which are not joined, share it. Runs after `tsc`.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { defineConfig } from 'rolldown';

const folder = fileURLToPath(new URL('dist/src', import.meta.url));
const joined = 'escapement-core.js';
const entry = '\0joined';

/** The modules that a module loads, and those that these load. */
function loadedBy(file: string, found = new Set<string>()): ReadonlySet<string> {
  if (found.has(file)) return found;
  found.add(file);
  for (const [, path = ''] of readFileSync(file, 'utf8').matchAll(/^(?:import|export)\b[^;]*?['"](\.{1,2}\/[^'"]+)['"];/gm))
    loadedBy(join(dirname(file), path), found);
  return found;
}

const index = join(folder, 'index.js');
if (existsSync(join(folder, joined)) && readFileSync(index, 'utf8').includes(joined))
  throw new Error('dist is joined already; run tsc first');
const modules: { readonly file: string; readonly names: readonly string[] }[] = [];
for (const file of loadedBy(index)) modules.push({ file, names: Object.keys(await import(pathToFileURL(file).href)) });

const inJoined = (name: string, i: number) => `m${i}_${name}`;
const exported = modules.map(
  ({ file, names }, i) => `export { ${names.map((name) => `${name} as ${inJoined(name, i)}`).join(', ')} } from ${JSON.stringify(file)};`,
);

export default defineConfig({
  input: { [joined.replace('.js', '')]: entry },
  platform: 'node',
  external: (id) => id.startsWith('node:') || /^[a-z@]/.test(id),
  plugins: [
    {
      name: 'joined',
      resolveId: (id) => (id === entry ? id : undefined),
      load: (id) => (id === entry ? [`import ${JSON.stringify(index)};`, ...exported].join('\n') : undefined),
      writeBundle() {
        for (const [i, { file, names }] of modules.entries()) {
          if (names.length === 0) continue;
          const path = relative(dirname(file), join(folder, joined));
          const list = names.map((name) => `${inJoined(name, i)} as ${name}`).join(', ');
          writeFileSync(file, `export { ${list} } from '${path.startsWith('.') ? path : `./${path}`}';\n`);
        }
      },
    },
  ],
  output: { dir: folder, format: 'esm' },
});

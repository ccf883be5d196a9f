/**
 * Joins the modules that `import 'escapement'` loads into one file: loading eighty small ones takes three times as long. Each of them stays where it
 * is and exports the same from the joined file, so that the other entry points, which are not joined, share it. The command line and the helper threads are joined likewise.
 * Runs after `tsc`.
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

const core = defineConfig({
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

/** The helper threads, each with the little that it needs: a thread starts with every worker. Written before the modules export from the joined file. */
const threads = ['sqlite', 'postgres'].map((store) =>
  defineConfig({
    input: { 'keeper-thread': join(folder, 'stores', store, 'keeper-thread.js') },
    platform: 'node',
    external: (id) => id.startsWith('node:') || /^[a-z@]/.test(id),
    output: { dir: join(folder, 'stores', store), format: 'esm', codeSplitting: false },
  }),
);

/** Whether a module only exports from the joined file. Known once the joined file is written. */
const isJoined = (file: string) => readFileSync(file, 'utf8').trimEnd().endsWith(`${joined}';`);

/** The command line, with a chunk for what a command loads when it runs. The chunks lie as deep as the modules that find the package by their own path. */
const program = defineConfig({
  input: { start: join(folder, '../cli/start.js') },
  platform: 'node',
  treeshake: false,
  plugins: [
    {
      name: 'program',
      resolveId(id, importer) {
        if (importer === undefined) return undefined;
        if (!id.startsWith('.')) return { id, external: true };
        const file = join(dirname(importer), id);
        const isShared = file.startsWith(join(folder, '/')) && !isJoined(file);
        return isShared ? { id: file, external: 'relative' } : undefined;
      },
    },
  ],
  output: { dir: join(folder, '../cli'), chunkFileNames: 'joined/[name].js', format: 'esm' },
});

export default [...threads, core, program];

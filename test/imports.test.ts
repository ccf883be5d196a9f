/** Checks which folder may import which, and other rules of the code base. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

interface Import {
  readonly from: string;
  readonly to: string;
  /** Type imports do not exist at run time: they cause no cycle, and load nothing. */
  readonly typeOnly: boolean;
}

const sources = ['src', 'cli'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.tsx?$/.test(file))
    .map((file) => join(folder, file)),
);
const texts = new Map(sources.map((file) => [file, readFileSync(join(root, file), 'utf8')]));
/** Imports in these files are text for files that `escapement init` writes. */
const templates = 'cli/commands/templates.ts';
const imports: Import[] = sources.flatMap((from) => {
  if (from === templates) return [];
  const text = texts.get(from) as string;
  const found = [...text.matchAll(/^(?:import|export)\s+(type\s)?([^;]*?from\s+)?'([^']+)'/gm)];
  return found
    .filter(([, , clause, to]) => clause !== undefined || to !== undefined)
    .map(([, type, clause, to = '']) => {
      const allTypes = clause !== undefined && /^\{\s*(type\s[^,}]*,?\s*)+\}/.test(clause);
      return { from, to: to.startsWith('.') ? relative(root, resolve(root, dirname(from), to)) : to, typeOnly: Boolean(type) || allTypes };
    });
});

/** The part to which a file belongs: the first match. */
const parts: readonly [string, RegExp][] = [
  ['core', /^src\/core\//],
  ['ports', /^src\/ports\//],
  ['engine', /^src\/engine\//],
  ['backends', /^src\/backends\//],
  ['bullmq', /^src\/bullmq\//],
  ['isolate', /^src\/isolate\//],
  ['stores', /^src\/stores\//],
  ['testing', /^src\/testing\//],
  ['vitest', /^src\/vitest\//],
  // What mail attaches to an application, so that its readers need not load mail.
  ['email/seam', /^src\/email\/seam\.ts$/],
  ['email', /^src\/email\//],
  // Used by commands to run an application on another store.
  ['place', /^src\/place\.ts$/],
  ['options', /^src\/options\//],
  ['root', /^src\/(workflow\/)?[^/]+$/],
  ['dash', /^cli\/dash\//],
  ['cli', /^cli\//],
];
const partOf = (path: string) => parts.find(([, pattern]) => pattern.test(path))?.[0] ?? path;

/** What each part may import: parts, packages, and `node:` if allowed. */
const allowed: Record<string, readonly string[]> = {
  core: ['core', 'croner', 'cronstrue', 'suncalc', '@standard-schema/spec'],
  ports: ['ports', 'core', 'uuid', 'node:async_hooks', 'node:os'],
  engine: ['engine', 'core', 'ports', '@standard-schema/spec', 'node:async_hooks'],
  // `immediate` and `dummy` keep their rows in the memory store.
  backends: ['backends', 'engine', 'core', 'ports', 'stores'],
  bullmq: ['bullmq', 'backends', 'engine', 'core', 'ports'],
  stores: ['stores', 'core', 'ports', 'better-sqlite3', 'node:'],
  isolate: ['isolate', 'engine', 'core', 'ports', '@standard-schema/spec', 'node:'],
  options: ['options', 'root', 'isolate', 'engine', 'core', '@standard-schema/spec'],
  root: ['root', 'options', 'isolate', 'backends', 'engine', 'core', 'ports', 'stores', '@standard-schema/spec'],
  testing: ['testing', 'email/seam', 'root', 'options', 'backends', 'engine', 'core', 'ports', 'stores', '@sinonjs/fake-timers', 'node:'],
  vitest: ['vitest', 'escapement', 'escapement/testing', 'node:'],
  'email/seam': [],
  place: ['root', 'ports'],
  email: ['email', 'email/seam', 'escapement', '@standard-schema/spec', 'nodemailer', 'node:'],
  // Only one file of the dashboard uses React; commands load it on demand.
  dash: ['dash', 'cli', 'core', 'email/seam', 'escapement', 'escapement/testing', 'ink', 'react', 'node:'],
  cli: ['cli', 'core', 'email/seam', 'place', 'escapement', 'escapement/testing', 'commander', 'pino', 'node:'],
};

describe('module boundaries', () => {
  test('imports are found', () => {
    expect(imports.length).toBeGreaterThan(150);
    expect(imports).toContainEqual({ from: 'src/engine/worker.ts', to: 'src/engine/loop.ts', typeOnly: false });
  });

  test.each(Object.keys(allowed))('%s imports only allowed modules', (part) => {
    const wrong = imports
      .filter(({ from }) => partOf(from) === part)
      .filter(({ to }) => {
        const target = partOf(to);
        const packages = allowed[part] as readonly string[];
        return (
          !packages.includes(target) &&
          !packages.some((name) => name.endsWith(':') && to.startsWith(name)) &&
          !(part === 'vitest' && /^@?vitest/.test(to))
        );
      })
      .map(({ from, to }) => `${from} → ${to}`);
    expect(wrong).toEqual([]);
  });

  test('React is imported by one file of the dashboard', () => {
    const drawn = imports.filter(({ to, typeOnly }) => /^(ink|react)(\/|$)/.test(to) && !typeOnly);
    expect([...new Set(drawn.map(({ from }) => from))]).toEqual(['cli/dash/app.tsx']);
    expect(imports.filter(({ from, to }) => partOf(from) === 'cli' && partOf(to) === 'dash')).toEqual([]);
  });

  test('only core parses instants and durations', () => {
    const parsers = sources.filter((file) => /function parse(Instant|Duration)\b/.test(texts.get(file) as string));
    expect(parsers).toEqual(['src/core/duration.ts']);
  });

  test('imports have no cycles', () => {
    const graph = new Map<string, string[]>();
    for (const { from, to, typeOnly } of imports) if (!typeOnly) graph.set(from, [...(graph.get(from) ?? []), to]);
    const circles: string[] = [];
    const done = new Set<string>();
    const visit = (file: string, path: string[]) => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '));
      else if (!done.has(file)) {
        for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
        done.add(file);
      }
    };
    for (const file of graph.keys()) visit(file, []);
    expect(circles).toEqual([]);
  });

  test('`escapement` loads no driver, no React and no fake timers', () => {
    const seen = new Set<string>();
    const visit = (file: string) => {
      if (seen.has(file)) return;
      seen.add(file);
      for (const { from, to, typeOnly } of imports) if (from === file && !typeOnly) visit(to);
    };
    visit('src/index.ts');
    expect([...seen].filter((file) => !file.startsWith('src/')).sort()).toEqual([
      'croner',
      'cronstrue',
      'node:async_hooks',
      'node:os',
      'suncalc',
    ]);
  });
});

describe('the house style', () => {
  const engineFiles = sources.filter((file) => /^src\/(core|engine|stores|backends|bullmq)\//.test(file));

  test('time and randomness are read in ports only', () => {
    const found = engineFiles.flatMap((file) =>
      (texts.get(file) as string)
        .split('\n')
        .map((line, i) => `${file}:${i + 1}: ${line.trim()}`)
        .filter((line) => !/: (\*|\/\/|\/\*\*)/.test(line))
        .filter((line) =>
          /Date\.now\(|new Date\(\)|Math\.random\(|[^.\w]setTimeout\(|setInterval\(|setImmediate\(|performance\.now/.test(line),
        ),
    );
    expect(found).toEqual([]);
  });

  test('every file starts with a comment on its purpose', () => {
    const silent = sources.filter((file) => !/^(#!.*\n)?\/\*\*/.test(texts.get(file) as string));
    expect(silent).toEqual([]);
  });

  test('no file has a default export', () => {
    expect(sources.filter((file) => /^export default/m.test(texts.get(file) as string))).toEqual([]);
  });
});

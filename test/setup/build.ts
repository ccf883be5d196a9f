/**
 * Builds the package once before the tests if its sources are newer: some tests run the program as users do, from `dist`. Types are not checked
 * here, which would take most of the time; `npm run typecheck` does that.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export function setup(): void {
  const builtAt = statSync(join(root, 'dist/cli/main.js'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = ['src', 'cli'].flatMap((folder) => changedAt(join(root, folder)));
  const newest = Math.max(...sources, statSync(join(root, 'rolldown.config.ts')).mtimeMs);
  if (newest <= builtAt) return;
  const run = (program: string, ...args: string[]) =>
    execFileSync(process.execPath, [join(root, 'node_modules', program), ...args], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  run('typescript/bin/tsc', '-p', join(root, 'tsconfig.build.json'), '--noCheck');
  run('rolldown/bin/cli.mjs', '-c', '--log-level', 'warn');
}

function changedAt(folder: string): number[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs);
}

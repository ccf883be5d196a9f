#!/usr/bin/env node
/** The program. A Node that is too old cannot even read the rest of it: the package says so when it is imported. */
try {
  await import('escapement');
} catch (error) {
  if (!/^escapement needs Node/.test((error as Error).message)) throw error;
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(2);
}
await import('./start.ts');

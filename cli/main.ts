#!/usr/bin/env node
/** The program. A Node that is too old cannot even read the rest of it: the package says so when it is imported. */
import module from 'node:module';

// Without the cache a third of the time that a command takes to begin would go into compiling, and TypeScript would be stripped again each time.
module.enableCompileCache?.();
try {
  await import('escapement');
} catch (error) {
  if (!/^escapement needs Node/.test((error as Error).message)) throw error;
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(2);
}
await import('./start.ts');

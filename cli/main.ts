#!/usr/bin/env node
/** The entry point. An old Node cannot parse the rest of the program, so the import of the package comes first: it reports the required version. */
import module from 'node:module';

// Without the cache, compiling takes a third of a command's startup time, and TypeScript is stripped again on every start.
module.enableCompileCache?.();
try {
  await import('escapement');
} catch (error) {
  if (!/^escapement needs Node/.test((error as Error).message)) throw error;
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(2);
}
await import('./start.ts');

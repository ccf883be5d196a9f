/** What the module prints while it is loaded and played goes to stderr: stdout is the report's, and the same for the same seed. */
import { Console } from 'node:console';
import { Writable } from 'node:stream';
import type { Output } from './io.ts';

const redirected = ['log', 'info', 'debug', 'warn', 'error', 'dir', 'table', 'trace'] as const;

/** @param before called before anything is written @returns the function that restores the console */
export function captureConsole(stderr: Output, before: () => void): () => void {
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      before();
      stderr.write(chunk);
      done();
    },
  });
  const own = new Console(stream);
  const real = Object.fromEntries(redirected.map((method) => [method, console[method]]));
  for (const method of redirected) console[method] = own[method].bind(own);
  return () => {
    Object.assign(console, real);
  };
}

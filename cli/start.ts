/** Connects the program to the real process: its streams, signals and exit code. */
import { createInterface } from 'node:readline';
import type { Io, Output } from './io.ts';
import { exitCodes, faultText } from './io.ts';
import { Ending, realProcess } from './process.ts';
import { run } from './program.ts';
import { foreignExit } from './worker/ending.ts';

const realNow = performance.now.bind(performance);
const realTimeout = setTimeout;
const write = {
  stdout: process.stdout.write.bind(process.stdout) as (text: string, done?: () => void) => boolean,
  stderr: process.stderr.write.bind(process.stderr) as (text: string, done?: () => void) => boolean,
};

// The reader has closed the output: discard the rest.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // EIO: the terminal was closed.
    if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
  });
}

function output(name: 'stdout' | 'stderr'): Output {
  const stream = process[name];
  return {
    write: (text) => {
      if (!stream.destroyed) write[name](text);
    },
    isTTY: stream.isTTY === true,
    get columns() {
      // Zero if the terminal does not report its size.
      return stream.columns || 80;
    },
  };
}

const ending = new Ending(realNow, (code) => {
  io.stderr.write(`escapement: ${foreignExit(code)}\n`);
  return code || exitCodes.refused;
});

const io: Io = {
  stdout: output('stdout'),
  stderr: output('stderr'),
  async stdin() {
    let text = '';
    for await (const chunk of process.stdin.setEncoding('utf8')) text += chunk;
    return text;
  },
  ask: process.stdin.isTTY && process.stdout.isTTY ? ask : undefined,
  env: process.env,
  cwd: process.cwd(),
  now: Date.now,
  realNow,
  onInterrupt(fn) {
    let isInterrupted = false;
    const listener = () => {
      if (isInterrupted) ending.leave(exitCodes.interrupted);
      isInterrupted = true;
      fn();
      // A task that never yields, or a play that waits for something else, would not react to Ctrl-C.
      realTimeout(() => ending.leave(exitCodes.interrupted), 2_000).unref();
    };
    return ending.on('SIGINT', listener);
  },
  onStuck(fn) {
    process.on('beforeExit', fn);
    return () => process.off('beforeExit', fn);
  },
  process: realProcess(ending, die),
};

async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return await new Promise<string>((resolve) => {
      lines.once('close', () => resolve(''));
      lines.once('SIGINT', () => ending.leave(exitCodes.interrupted));
      lines.question(question, resolve);
    });
  } finally {
    lines.close();
  }
}

function die(error: unknown): void {
  io.stderr.write(faultText(error, io.env));
  ending.leave(exitCodes.usage);
}

/** Exits after all output is written, because the module may keep connections open. */
async function exit(code: number): Promise<void> {
  process.exitCode = code;
  const flushed = (name: 'stdout' | 'stderr') =>
    new Promise<void>((resolve) => {
      if (process[name].destroyed || !process[name].writable) resolve();
      else write[name]('', () => resolve());
    });
  await Promise.all([flushed('stdout'), flushed('stderr')]);
  ending.leave(code);
}

run(process.argv.slice(2), io).then(exit, die);

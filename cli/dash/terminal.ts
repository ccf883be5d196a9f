/**
 * Controls the terminal for the dashboard: the alternate screen, raw keys, its size, and writing only the lines that changed. The terminal
 * is restored on exit, crash, signal and Ctrl-Z. Ink renders the frames but does not write them: its timers would stop with the virtual
 * clock, which replaces the globals.
 */
import { writeSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import { width } from '../format.ts';
import { decodeKeys, unfinished } from './decode.ts';

// The real timers, even while a simulation replaces the globals.
const { setTimeout, clearTimeout } = globalThis;

const enter = '\u001b[?1049h\u001b[?25l\u001b[?2004h\u001b[?7l\u001b[2J';
const leave = '\u001b[0m\u001b[?7h\u001b[?2004l\u001b[?25h\u001b[?1049l';
// Terminals that support synchronized output show the frame at once.
const beginFrame = '\u001b[?2026h';
const endFrame = '\u001b[?2026l';
/** The wait after an escape, which may begin a longer key sequence. */
const escapeMs = 25;
/** The wait for the rest of a paste, which arrives in chunks that must not be taken for keys. */
const pasteMs = 1_000;

export interface Listener {
  key(key: string): void;
  resized(columns: number, rows: number): void;
  /** The process was resumed by the shell: redraw everything. */
  resumed(): void;
  /** The terminal was closed. */
  gone(): void;
  /** The module or a library wrote to stdout or stderr. */
  printed(text: string): void;
}

export class Terminal {
  readonly #out = process.stdout;
  readonly #write = process.stdout.write.bind(process.stdout) as (text: string) => boolean;
  readonly #listener: Listener;
  #undo: (() => void)[] = [];
  #shown: string[] = [];
  #held = '';
  #escape: NodeJS.Timeout | undefined;
  #inside = false;
  /** The frames and bytes written, for benchmarks. */
  frames = 0;
  bytes = 0;

  constructor(listener: Listener) {
    this.#listener = listener;
  }

  get columns(): number {
    return Math.max(1, this.#out.columns || 80);
  }
  get rows(): number {
    return Math.max(1, this.#out.rows || 24);
  }

  start(): void {
    const { stdin } = process;
    const onData = (chunk: string) => this.#input(chunk);
    const onResize = () => {
      this.#shown = [];
      this.#listener.resized(this.columns, this.rows);
    };
    const onExit = () => this.#restoreNow();
    const onStop = () => {
      this.#giveBack();
      process.kill(process.pid, 'SIGSTOP');
    };
    const onContinue = () => {
      this.#take();
      this.#listener.resized(this.columns, this.rows);
      this.#listener.resumed();
    };
    const onEnd = () => this.#listener.gone();
    stdin.setEncoding('utf8').on('data', onData).on('end', onEnd);
    this.#out.on('resize', onResize);
    process.on('exit', onExit).on('SIGTSTP', onStop).on('SIGCONT', onContinue);
    this.#undo.push(this.#captureOutput(), () => {
      stdin.off('data', onData).off('end', onEnd).pause();
      this.#out.off('resize', onResize);
      process.off('exit', onExit).off('SIGTSTP', onStop).off('SIGCONT', onContinue);
    });
    this.#take();
  }

  stop(): void {
    this.#giveBack();
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  /** Suspends to the shell, as Ctrl-Z does: the whole process group, so that a parent npm or npx stops too. */
  suspend(): void {
    process.kill(0, 'SIGTSTP');
  }

  /** Returns false if the terminal has not consumed the last frame yet; the new frame is then dropped. */
  draw(lines: readonly string[]): boolean {
    if (!this.#inside || this.#out.writableNeedDrain) return false;
    let text = '';
    lines.forEach((line, i) => {
      if (line !== this.#shown[i]) text += `\u001b[${i + 1};1H${line}\u001b[0m${this.#rest(line)}`;
    });
    this.#shown = [...lines];
    if (text === '') return true;
    this.frames += 1;
    this.bytes += text.length;
    this.#write(`${beginFrame}${text}${endFrame}`);
    return true;
  }

  /** Clears the rest of a line. For a full line that would erase the last character, so nothing is cleared. */
  #rest(line: string): string {
    return width(stripVTControlCharacters(line)) < this.columns ? '\u001b[K' : '';
  }

  forget(): void {
    this.#shown = [];
    if (this.#inside) this.#write('\u001b[2J');
  }

  #take(): void {
    if (process.stdin.isTTY) process.stdin.setRawMode(true);
    process.stdin.resume();
    this.#inside = true;
    this.#shown = [];
    this.#write(enter);
  }

  #giveBack(): void {
    if (!this.#inside) return;
    this.#inside = false;
    this.#write(leave);
    if (process.stdin.isTTY && !process.stdin.destroyed) process.stdin.setRawMode(false);
  }

  /** Restores the terminal synchronously, because asynchronous writes are lost while the process exits. */
  #restoreNow(): void {
    if (!this.#inside) return;
    this.#inside = false;
    try {
      writeSync(1, leave);
      if (process.stdin.isTTY) process.stdin.setRawMode(false);
    } catch {
      // The terminal was closed.
    }
  }

  #input(chunk: string): void {
    clearTimeout(this.#escape);
    this.#held += chunk;
    const awaited = unfinished(this.#held);
    if (awaited === null) this.#flush();
    else this.#escape = setTimeout(() => this.#flush(), awaited === 'key' ? escapeMs : pasteMs);
  }

  #flush(): void {
    const text = this.#held;
    this.#held = '';
    for (const key of decodeKeys(text)) this.#listener.key(key);
  }

  /** Captures writes to stdout and stderr, which would corrupt the frame. */
  #captureOutput(): () => void {
    const undo = (['stdout', 'stderr'] as const).map((name) => {
      const stream = process[name];
      const { write } = stream;
      stream.write = ((chunk: string | Uint8Array, encoding?: unknown, done?: unknown) => {
        this.#listener.printed(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString());
        const called = typeof encoding === 'function' ? encoding : done;
        if (typeof called === 'function') process.nextTick(called);
        return true;
      }) as typeof write;
      return () => {
        stream.write = write;
      };
    });
    return () => {
      for (const end of undo) end();
    };
  }
}

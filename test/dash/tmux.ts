/**
 * A real terminal: tmux, in which a test presses keys and reads the screen. Without tmux, these tests are skipped. One client in control
 * mode sends the commands of a test, receives their output, and reports when the screen changes.
 */
import { spawn, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from '../cli/cli.ts';

export const hasTmux = spawnSync('tmux', ['-V']).status === 0;

export interface Screen {
  /** Key names of tmux, or text to be typed. */
  keys(...names: string[]): void;
  type(text: string): void;
  resize(columns: number, rows: number): void;
  read(): Promise<string>;
  /** Resolves to the screen once it matches; rejects with the actual screen. */
  until(expected: RegExp, forMs?: number): Promise<string>;
  /** The id of the process in the terminal. */
  pid(): Promise<number>;
  end(): void;
}

/** Runs commands one after another. `changed` resolves at the program's next output, or soon. */
interface Control {
  run(...argv: string[]): Promise<string>;
  changed(): Promise<void>;
  end(): void;
}

let screens = 0;

function control(argv: readonly string[]): Control {
  screens += 1;
  const tmux = spawn('tmux', ['-L', `escapement-test-${process.pid}-${screens}`, '-f', '/dev/null', '-C', ...argv], { cwd: root });
  const asked: ((answer: string) => void)[] = [() => {}];
  let answer: string[] | undefined;
  let rest = '';
  let wake = () => {};
  const take = (line: string): void => {
    if (answer === undefined) {
      if (line.startsWith('%begin ')) answer = [];
      if (line.startsWith('%output ')) wake();
      return;
    }
    if (!/^%(end|error) \d+ \d+ \d+$/.test(line)) {
      answer.push(line);
      return;
    }
    asked.shift()?.(answer.join('\n'));
    answer = undefined;
  };
  tmux.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) take(line);
  });
  // The server may have exited first.
  tmux.stdin.on('error', () => {});
  return {
    run: (...words) =>
      new Promise((resolve) => {
        asked.push(resolve);
        tmux.stdin.write(`${words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')}\n`);
      }),
    changed: () => Promise.race([new Promise<void>((resolve) => (wake = resolve)), sleep(500)]),
    end: () => tmux.stdin.end('kill-server\n'),
  };
}

/** @param command a shell command; the shell's screen returns when it ends */
export function openScreen(command: string, columns = 80, rows = 24, env: Record<string, string> = {}): Screen {
  const given = Object.entries({ CI: '', NO_COLOR: '', ...env }).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
  const { run, changed, end } = control(['new-session', '-s', 'main', '-x', String(columns), '-y', String(rows), ...given, 'sh']);
  const read = () => run('capture-pane', '-t', 'main', '-p');
  const isShown = async (expected: RegExp) => {
    for (;;) {
      const next = changed();
      if (expected.test(await read())) return;
      await next;
    }
  };
  // Text typed before the shell reads may be lost.
  const prompted = isShown(/^[$#] *$/m);
  const keys = (...names: string[]) => void prompted.then(() => run('send-keys', '-t', 'main', ...names));
  const type = (text: string) => keys('-l', text);
  type(`PS1='$ '; clear; ${command}; echo "code $?"`);
  keys('Enter');
  return {
    keys,
    type,
    resize: (wide, high) => void run('resize-window', '-t', 'main', '-x', String(wide), '-y', String(high)),
    read,
    async until(expected, forMs = 60_000) {
      const until = Date.now() + forMs;
      for (;;) {
        const next = changed();
        const text = await read();
        if (expected.test(text)) return text;
        if (Date.now() > until) throw new Error(`the screen did not show ${expected}:\n${text}`);
        await next;
        // Output arrives in several pieces.
        await sleep(10);
      }
    },
    pid: async () => Number(await run('display-message', '-p', '-t', 'main', '#{pane_pid}')),
    end,
  };
}

export const program = `${process.execPath} dist/cli/main.js`;

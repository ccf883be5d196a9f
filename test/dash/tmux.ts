/** A real terminal: tmux, in which a test presses keys and looks at the screen. Where there is none, such tests are skipped. */
import { execFileSync, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from '../cli/cli.ts';

export const hasTmux = spawnSync('tmux', ['-V']).status === 0;

export interface Screen {
  /** Keys by tmux's names, or a text to be typed. */
  keys(...names: string[]): void;
  type(text: string): void;
  resize(columns: number, rows: number): void;
  read(): string;
  /** The screen once it is as expected; rejects with what it was instead. */
  until(expected: RegExp, forMs?: number): Promise<string>;
  /** The process that runs in it. */
  readonly pid: number;
  end(): void;
}

let screens = 0;

/** @param command for the shell, whose own screen comes back when it ends */
export function openScreen(command: string, columns = 80, rows = 24, env: Record<string, string> = {}): Screen {
  screens += 1;
  const socket = `escapement-test-${process.pid}-${screens}`;
  const tmux = (...argv: string[]) => execFileSync('tmux', ['-L', socket, ...argv], { encoding: 'utf8', cwd: root });
  const given = Object.entries({ CI: '', NO_COLOR: '', ...env }).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
  tmux('-f', '/dev/null', 'new-session', '-d', '-s', 'main', '-x', String(columns), '-y', String(rows), ...given, 'sh');
  tmux('send-keys', '-t', 'main', '-l', `PS1='$ '; clear; ${command}; echo "code $?"`);
  tmux('send-keys', '-t', 'main', 'Enter');
  const read = () => tmux('capture-pane', '-t', 'main', '-p');
  return {
    keys: (...names) => tmux('send-keys', '-t', 'main', ...names),
    type: (text) => tmux('send-keys', '-t', 'main', '-l', text),
    resize: (wide, high) => tmux('resize-window', '-t', 'main', '-x', String(wide), '-y', String(high)),
    read,
    async until(expected, forMs = 60_000) {
      const until = Date.now() + forMs;
      for (;;) {
        const text = read();
        if (expected.test(text)) return text;
        if (Date.now() > until) throw new Error(`the screen never showed ${expected}:\n${text}`);
        await sleep(50);
      }
    },
    get pid() {
      return Number(tmux('display-message', '-p', '-t', 'main', '#{pane_pid}'));
    },
    end: () => {
      spawnSync('tmux', ['-L', socket, 'kill-server']);
    },
  };
}

export const program = `${process.execPath} dist/cli/main.js`;

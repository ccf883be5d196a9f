/** Shows the progress of a simulation: a line on stderr that is rewritten on a terminal; otherwise only the final line is printed. */
import { type Paint, painter, plural, roughly, wantsColour } from './format.ts';
import type { Io } from './io.ts';
import { exactDuration, instantText } from './time.ts';

export interface Progress {
  /** Counts a started attempt. */
  readonly count: () => void;
  at(virtualNow: number, from: number, to: number): void;
  /** Clears the line, so that something else can be written. */
  clear(): void;
}

const everyMs = 100;
const firstAfterMs = 250;

export function progressOf(io: Io): Progress {
  const { stderr, realNow } = io;
  const paint = painter(wantsColour(stderr, io.env));
  const startedAt = realNow();
  let attempts = 0;
  let shownAt = startedAt + firstAfterMs - everyMs;
  let shown = false;
  return {
    count: () => {
      attempts += 1;
    },
    at(virtualNow, from, to) {
      const now = realNow();
      if (!stderr.isTTY || now - shownAt < everyMs) return;
      shownAt = now;
      shown = true;
      stderr.write(`\r\u001b[2K${line({ virtualNow, from, to, attempts, realMs: now - startedAt }, stderr.columns, paint)}`);
    },
    clear() {
      if (shown) stderr.write('\r\u001b[2K');
      shown = false;
    },
  };
}

interface State {
  readonly virtualNow: number;
  readonly from: number;
  readonly to: number;
  readonly attempts: number;
  readonly realMs: number;
}

/** Shortened on narrow terminals, because a line that wraps cannot be rewritten. */
function line({ virtualNow, from, to, attempts, realMs }: State, columns: number, paint: Paint): string {
  const percent = `${Math.floor(((virtualNow - from) / Math.max(1, to - from)) * 100)} %`;
  const speed = `${roughly((virtualNow - from) / realMs)} × real time`;
  const where = `${instantText(virtualNow)}  ${paint('bold', percent.padStart(5))}`;
  return columns < 80 ? where : `${where}  ${paint('dim', `${plural(attempts, 'attempt')}  ${speed}`)}`;
}

/** `played 7d in 0.9 s: 670,000 × real time` */
export function closingLine(virtualMs: number, realMs: number): string {
  const seconds = realMs / 1_000;
  const digits = seconds < 0.1 ? 3 : seconds < 10 ? 1 : 0;
  return `played ${exactDuration(virtualMs)} in ${seconds.toFixed(digits)} s: ${roughly(virtualMs / realMs)} × real time`;
}

/** The whole screen as lines: the frame and the current view. At 20×5 it still shows the clock, the list and one key. */
import type { State, ViewName } from '../state.ts';
import { blank, filled, type Line, rule } from '../text.ts';
import { banner, foot, header, promptLines, tabs } from './chrome.ts';
import { events } from './events.ts';
import { help } from './help.ts';
import { job } from './job.ts';
import { jobs } from './jobs.ts';
import { mail, outbox } from './mail.ts';
import { overview } from './overview.ts';
import { retries } from './retries.ts';
import { schedules } from './schedules.ts';
import { workers } from './workers.ts';

type View = (state: State, wide: number, high: number) => readonly Line[];

const views: Readonly<Record<ViewName, View>> = { overview, jobs, job, retries, schedules, workers, events, outbox, mail };

/** Returns exactly as many lines as the screen has rows, each exactly as wide as the screen. */
export function screen(state: State): readonly Line[] {
  const { columns: wide, rows: high } = state;
  const roomy = high >= 12;
  const above = [header(state, wide), ...(high >= 8 ? [tabs(state, wide)] : []), ...(roomy ? [rule(wide)] : [])];
  const notices = banner(state, wide, high);
  const below = state.prompt
    ? promptLines(state, wide)
    : [...(notices.length > 0 ? notices : roomy ? [rule(wide)] : []), foot(state, wide)];
  const room = Math.max(1, high - above.length - below.length);
  const body = (state.help ? help : views[state.view])(state, wide, room).slice(0, room);
  const padding = Array.from({ length: room - body.length }, () => blank);
  return [...above, ...body, ...padding, ...below].slice(0, Math.max(1, high)).map((one) => filled(one, wide));
}

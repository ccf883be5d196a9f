/** The dashboard, where there is a terminal for it; and what the module prints, which must not reach the screen. */
import { captureConsole } from '../console.ts';
import { clean } from '../format.ts';
import type { Io, Output } from '../io.ts';
import { Dashboard, type DashboardOptions } from './dashboard.ts';
import { loadDrawing } from './drawing.ts';
import type { Feed } from './feed.ts';
import { isInteractive } from './plain.ts';
import { type Theme, themeFor } from './theme.ts';

export interface Opened {
  /** Undefined: nobody sits before a terminal. */
  readonly dashboard: Dashboard | undefined;
  restoreConsole(): void;
}

/** @param now of the application, whose time may be virtual: when a line was printed */
export async function openDashboard(
  options: Pick<DashboardOptions, 'label' | 'write' | 'zone' | 'feed'> & {
    readonly theme: Theme['name'] | undefined;
    readonly alone: boolean;
  },
  now: () => number,
  io: Io,
): Promise<Opened> {
  if (!isInteractive(io)) return { dashboard: undefined, restoreConsole: captureConsole(io.stderr, () => {}) };
  const draw = await loadDrawing(io.env, options.alone);
  const theme = themeFor(io.env, options.theme);
  const dashboard = new Dashboard({ ...options, theme, cwd: io.cwd, now: io.now, realNow: io.realNow, draw });
  return { dashboard, restoreConsole: captureConsole(printer(options.feed, now), () => {}) };
}

/** Once there is something to be left: until then, a signal ends the process. */
export function endBySignal(dashboard: Dashboard, io: Io): void {
  io.life.onSignal(() => dashboard.quit());
  io.life.onOutputClosed(() => dashboard.quit());
}

/** What the module prints becomes events: the screen is the dashboard's. */
function printer(feed: Feed, now: () => number): Output {
  return {
    isTTY: false,
    columns: 80,
    write: (text) => {
      for (const line of text.split('\n')) if (clean(line) !== '') feed.print(now(), line);
    },
  };
}

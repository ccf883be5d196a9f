/** The dashboard, where there is a terminal for it; and what the module prints and the engine warns of, which must not reach the screen. */
import { captureConsole, captureLogger } from '../console.ts';
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
  const captured = (output: Output) => {
    const restoreConsole = captureConsole(output, () => {});
    const restoreLogger = captureLogger((_level, fields, message) => output.write(`${noticeText(fields, message)}\n`));
    return () => {
      restoreLogger();
      restoreConsole();
    };
  };
  if (!isInteractive(io)) return { dashboard: undefined, restoreConsole: captured(io.stderr) };
  const draw = await loadDrawing(io.env, options.alone);
  const theme = themeFor(io.env, options.theme);
  const dashboard = new Dashboard({ ...options, theme, cwd: io.cwd, now: io.now, realNow: io.realNow, draw });
  return { dashboard, restoreConsole: captured(printer(options.feed, now)) };
}

/** Once there is something to be left: until then, a signal ends the process. */
export function endBySignal(dashboard: Dashboard, io: Io): void {
  io.life.onSignal(() => dashboard.quit());
  io.life.onOutputClosed(() => dashboard.quit());
}

/** A line of the engine, which events do not tell. */
function noticeText({ task, error }: Readonly<Record<string, unknown>>, message: string): string {
  return clean([...(typeof task === 'string' ? [task] : []), message, ...(typeof error === 'string' ? [error] : [])].join(': '));
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

/** Opens the dashboard if there is a terminal, and captures the module's console output and the engine's log, which must not reach the screen. */
import { captureConsole, captureLogger } from '../console.ts';
import { clean } from '../format.ts';
import type { Io, Output } from '../io.ts';
import { Dashboard, type DashboardOptions } from './dashboard.ts';
import { loadDrawing } from './drawing.ts';
import type { Feed } from './feed.ts';
import { isInteractive } from './plain.ts';
import { type Theme, themeFor } from './theme.ts';

export interface Opened {
  /** Undefined without an interactive terminal. */
  readonly dashboard: Dashboard | undefined;
  restoreConsole(): void;
}

/** @param now the application's time, which may be virtual; used for printed lines */
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

/** Lets signals quit the dashboard. Before this call, a signal ends the process. */
export function endBySignal(dashboard: Dashboard, io: Io): void {
  io.process.onSignal(() => dashboard.quit());
  io.process.onOutputClosed(() => dashboard.quit());
}

/** Formats a log message of the engine. */
function noticeText({ task, error }: Readonly<Record<string, unknown>>, message: string): string {
  return clean([...(typeof task === 'string' ? [task] : []), message, ...(typeof error === 'string' ? [error] : [])].join(': '));
}

/** Turns console output of the module into events. */
function printer(feed: Feed, now: () => number): Output {
  return {
    isTTY: false,
    columns: 80,
    write: (text) => {
      for (const line of text.split('\n')) if (clean(line) !== '') feed.print(now(), line);
    },
  };
}

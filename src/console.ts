/** The logger of applications that name none: one line of text an entry, to the console, stripped of control characters. */
import { ignoreRejection, isThenable, show } from './core/duration.ts';
import type { Logger } from './engine/host.ts';
import { outside } from './engine/scope.ts';
import { namePattern } from './options.ts';

export const consoleLogger: Logger = {
  debug() {},
  info: (fields, message) => console.info(line(fields, message)),
  warn: (fields, message) => console.warn(line(fields, message)),
  error: (fields, message) => console.error(line(fields, message)),
};

function line(fields: object, message: string): string {
  const rest = Object.entries(fields).map(
    ([key, value]) => `${key}=${typeof value === 'string' && namePattern.test(value) ? value : show(value)}`,
  );
  return [show(message).replace(/^"|"$/g, ''), ...rest].join(' ');
}

/** A logger that fails must not fail the job whose line it writes, and not stop a loop of the engine. */
export function guardedLogger(logger: Logger): Logger {
  const write = (level: keyof Logger) => (fields: object, message: string) => {
    try {
      outside(() => {
        const written: unknown = logger[level](fields, message);
        if (isThenable(written)) ignoreRejection(written);
      });
    } catch {
      // There is nowhere to tell it.
    }
  };
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
}

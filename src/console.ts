/** The default logger: writes one line of text per entry to the console, stripped of control characters. */
import { ignoreRejection, isThenable, show } from './core/duration.ts';
import type { Logger } from './engine/host.ts';
import { outside } from './engine/scope.ts';
import { namePattern } from './options/names.ts';

const key = Symbol.for('escapement.logger');
/** A logger that replaces the console, set by processes with their own log such as `escapement worker`. Shared by all copies of this package. */
const home = globalThis as { readonly [key]?: Logger };

export const consoleLogger: Logger = {
  debug() {},
  info: (fields, message) => (home[key] ? home[key].info(fields, message) : console.info(line(fields, message))),
  warn: (fields, message) => (home[key] ? home[key].warn(fields, message) : console.warn(line(fields, message))),
  error: (fields, message) => (home[key] ? home[key].error(fields, message) : console.error(line(fields, message))),
};

/** The logger of simulations, which print nothing by default. */
export const silentLogger: Logger = {
  debug() {},
  info: (fields, message) => home[key]?.info(fields, message),
  warn: (fields, message) => home[key]?.warn(fields, message),
  error: (fields, message) => home[key]?.error(fields, message),
};

function line(fields: object, message: string): string {
  const rest = Object.entries(fields)
    // A recorded error is already part of the message.
    .filter(([, value]) => typeof value?.stack !== 'string')
    .map(([key, value]) => `${key}=${typeof value === 'string' && namePattern.test(value) ? value : show(value)}`);
  return [clean(String(message)), ...rest].join(' ');
}

function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  return text.slice(0, maxLength).replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
}
const maxLength = 2_000;

/** An error thrown by a logger must not fail a job or stop a loop of the engine. */
export function guardedLogger(logger: Logger): Logger {
  const write = (level: keyof Logger) => (fields: object, message: string) => {
    try {
      outside(() => {
        const written: unknown = logger[level](fields, message);
        if (isThenable(written)) ignoreRejection(written);
      });
    } catch {
      // There is nowhere to report it.
    }
  };
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
}

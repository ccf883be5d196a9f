/** The logger of applications that name none: one line of text an entry, to the console, stripped of control characters. */
import { show } from './core/duration.ts';
import type { Logger } from './engine/host.ts';
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

/** Options that `dev` and `top` share: the dashboard's theme and time zone. */
import { type Command, InvalidArgumentError } from 'commander';
import { oneOf } from '../arguments.ts';
import { wallTime } from '../time.ts';

const themes = ['dark', 'light', 'sixteen', 'plain'] as const;

export interface Looks {
  readonly zone?: string;
  readonly theme?: (typeof themes)[number];
}

export function addLooks(command: Command, ofZone: string): Command {
  return command
    .option('--zone <name>', `show times in this zone: 'Europe/Berlin' (default: ${ofZone})`, zoneName)
    .option('--theme <name>', 'dark, light, sixteen or plain (default: detected from the terminal)', oneOf(themes));
}

function zoneName(text: string): string {
  try {
    wallTime(0, text);
    return text;
  } catch {
    throw new InvalidArgumentError("Give the name of a time zone, such as 'Europe/Berlin' or 'UTC'.");
  }
}

/** A cron expression in words, by cronstrue, with the few forms that it reads otherwise than Escapement turned into ones that it knows. */
import { toString as inWords } from 'cronstrue';

/**
 * What an expression says, as a sentence in English with a 24-hour clock: `At 09:00, Monday through Friday`.
 * Never throws: what cannot be put in words is returned as it was given.
 */
export function describeCron(expression: string): string {
  try {
    // `FRI#L` and `FRIL` are the same day; `+FRI` asks for both day fields, which cronstrue takes as an option.
    const fields = expression.trim().split(/\s+/);
    const both = fields.length > 1 && fields.at(-1)?.startsWith('+') === true;
    const plain = fields.map((field) => field.replace(/#L/gi, 'L'));
    if (both) plain[plain.length - 1] = (plain.at(-1) as string).slice(1);
    return inWords(plain.join(' '), { verbose: false, use24HourTimeFormat: true, logicalAndDayFields: both });
  } catch {
    return String(expression);
  }
}

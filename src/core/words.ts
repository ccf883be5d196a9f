/** Describes cron expressions in English, using cronstrue. Forms that cronstrue reads differently from Escapement are rewritten first. */
import { toString as inWords } from 'cronstrue';

const longNames =
  /(sun|mon|tues|wednes|thurs|fri|satur)day(?=$|[^a-z]|l)|(january|february|march|april|june|july|august|september|october|november|december)(?![a-z])/gi;

/** An expression's fields. Names of months and weekdays are cut to three letters, and a seventh field, which can only be `*`, is removed. */
export function fieldsOf(expression: string): string[] {
  const fields = expression.trim().split(/\s+/);
  if (fields.length === 7 && /^[*?]$/.test(fields[6] as string)) fields.pop();
  return fields.map((field) => field.replace(longNames, (name) => name.slice(0, 3)));
}

/**
 * Describes an expression as an English sentence with a 24-hour clock: `At 09:00, Monday through Friday`. Never throws: an expression that
 * cannot be described is returned unchanged.
 */
export function describeCron(expression: string): string {
  try {
    // `FRI#L` and `FRIL` are the same day. `+FRI` requires both day fields, which is an option of cronstrue.
    const fields = fieldsOf(expression);
    const both = fields.length > 1 && fields.at(-1)?.startsWith('+') === true;
    const plain = fields.map((field) => field.replace(/#L/gi, 'L'));
    if (both) plain[plain.length - 1] = (plain.at(-1) as string).slice(1);
    return inWords(plain.join(' '), { verbose: false, use24HourTimeFormat: true, logicalAndDayFields: both });
  } catch {
    return String(expression);
  }
}

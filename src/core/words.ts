/** A cron expression in words, by cronstrue, with the few forms that it reads otherwise than Escapement turned into ones that it knows. */
import { toString as inWords } from 'cronstrue';

const longNames =
  /(sun|mon|tues|wednes|thurs|fri|satur)day(?=$|[^a-z]|l)|(january|february|march|april|june|july|august|september|october|november|december)(?![a-z])/gi;

/** An expression's fields: names of months and weekdays cut to three letters, and a seventh field, which can only be `*`, left out. */
export function fieldsOf(expression: string): string[] {
  const fields = expression.trim().split(/\s+/);
  if (fields.length === 7 && /^[*?]$/.test(fields[6] as string)) fields.pop();
  return fields.map((field) => field.replace(longNames, (name) => name.slice(0, 3)));
}

/**
 * What an expression says, as a sentence in English with a 24-hour clock: `At 09:00, Monday through Friday`.
 * Never throws: what cannot be put in words is returned as it was given.
 */
export function describeCron(expression: string): string {
  try {
    // `FRI#L` and `FRIL` are the same day; `+FRI` asks for both day fields, which cronstrue takes as an option.
    const fields = fieldsOf(expression);
    const both = fields.length > 1 && fields.at(-1)?.startsWith('+') === true;
    const plain = fields.map((field) => field.replace(/#L/gi, 'L'));
    if (both) plain[plain.length - 1] = (plain.at(-1) as string).slice(1);
    return inWords(plain.join(' '), { verbose: false, use24HourTimeFormat: true, logicalAndDayFields: both });
  } catch {
    return String(expression);
  }
}

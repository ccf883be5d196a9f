/** Removes secrets from logged values, by the names of properties. Values are copied, never changed. */

const secretKey =
  /pass(?:word|wd|phrase|code)|^pass$|^pwd$|secret|token|(?:api|access|private|signing|encryption)_?key|authori[sz]ation|^auth$|^jwt$|^otp$|cookie|credential|session_?id|^pin$|cvv|cvc|card_?number|^iban$|^signature$/i;
const secretText = /^(?:bearer|basic)\s+\S+/i;
/** `postgres://user:password@host`. */
const secretInUrl = /(\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@]*:)[^\s/@]+@/gi;
const maxDepth = 8;
const longestText = 2_000;

export const redacted = '[redacted]';

export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') {
    if (secretText.test(value)) return redacted;
    const text = value.replace(secretInUrl, `$1${redacted}@`);
    return text.length > longestText ? `${text.slice(0, longestText)}… (${text.length} characters)` : text;
  }
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= maxDepth) return '[deeper]';
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  if (value instanceof Error) return { name: value.name, message: redact(value.message, depth + 1) };
  if (value instanceof Date) return value;
  // `api-key`, `apiKey` and `API_KEY` are the same name.
  const entries = Object.entries(value).map(([key, item]) => [
    key,
    secretKey.test(key.replaceAll('-', '_')) ? redacted : redact(item, depth + 1),
  ]);
  return Object.fromEntries(entries);
}

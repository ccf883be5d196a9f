/** Takes secrets out of what is logged, by the names they go by. Values are copied, never changed. */

const secretKey =
  /pass(?:word|wd|phrase|code)|^pass$|^pwd$|secret|token|api_?key|authori[sz]ation|cookie|credential|private_?key|session_?id|^pin$|cvv|cvc/i;
const secretText = /^(?:bearer|basic)\s+\S+/i;
const deepest = 8;
const longestText = 2_000;

export const redacted = '[redacted]';

export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') {
    if (secretText.test(value)) return redacted;
    return value.length > longestText ? `${value.slice(0, longestText)}… (${value.length} characters)` : value;
  }
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= deepest) return '[deeper]';
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  if (value instanceof Error) return { name: value.name, message: redact(value.message, depth + 1) };
  if (value instanceof Date) return value;
  // `api-key`, `apiKey` and `API_KEY` are one.
  const entries = Object.entries(value).map(([key, item]) => [
    key,
    secretKey.test(key.replaceAll('-', '_')) ? redacted : redact(item, depth + 1),
  ]);
  return Object.fromEntries(entries);
}

/** The message of a failing expectation, without colours. */
import { stripVTControlCharacters } from 'node:util';

export function messageOf(expectation: () => void): string {
  try {
    expectation();
  } catch (error) {
    return plain(error);
  }
  throw new Error('the expectation was met');
}

export async function messageFrom(expectation: Promise<void>): Promise<string> {
  return expectation.then(
    () => Promise.reject(new Error('the expectation was met')),
    (error) => plain(error),
  );
}

function plain(error: unknown): string {
  return stripVTControlCharacters(error instanceof Error ? error.message : String(error));
}

/** Mail for the commands and the dashboard: the outbox of an application, and writing the HTML of a mail to a file. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tasks } from 'escapement';
import { type MailSeam, seamOf } from '../src/email/seam.ts';
import { cleanLines } from './format.ts';

export type { MailSeam, MailState, OutboxEntry, OutboxMail } from '../src/email/seam.ts';

/** The mail of an application; empty if it does not define mail. */
export function mailOf(tasks: Tasks): MailSeam {
  return seamOf(tasks);
}

/**
 * Writes the HTML of a mail, or its text if it has no HTML, to a file that can be opened in a browser.
 * @param name part of the file's name
 * @returns the path
 */
export function saveHtml(name: string, mail: { readonly html: string | null; readonly text: string | null }, path?: string): string {
  // A new folder, which no other user can have prepared.
  const file = path ?? join(mkdtempSync(join(tmpdir(), 'escapement-mail-')), `${name.replace(/[^\w.-]+/g, '-')}.html`);
  const text = mail.text ?? '(no content is kept)';
  const html =
    mail.html ?? `<!doctype html><meta charset="utf-8"><pre>${text.replace(/[&<]/g, (char) => (char === '&' ? '&amp;' : '&lt;'))}</pre>`;
  writeFileSync(file, html, { mode: 0o600 });
  return file;
}

/** The lines of a mail's text, each made safe. Empty lines are kept. */
export function textLines(text: string): string[] {
  return text.split(/\r\n|[\n\r]/).map((line) => cleanLines(line)[0] ?? '');
}

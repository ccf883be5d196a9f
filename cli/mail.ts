/** Mails as commands and the dashboard show them: where an application keeps its mail, one file for the HTML of one mail. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tasks } from 'escapement';
import { type MailSeam, seamOf } from '../src/email/seam.ts';
import { cleanLines } from './format.ts';

export type { MailSeam, MailState, OutboxEntry, OutboxMail } from '../src/email/seam.ts';

/** What mail an application has. One that has none gets an empty one. */
export function mailOf(tasks: Tasks): MailSeam {
  return seamOf(tasks);
}

/**
 * Writes the HTML of a mail, or its text where it has none, to a file that a browser opens.
 * @param name part of the file's name
 * @returns the path
 */
export function saveHtml(name: string, mail: { readonly html: string | null; readonly text: string | null }, path?: string): string {
  // A folder that nobody else can have prepared.
  const file = path ?? join(mkdtempSync(join(tmpdir(), 'escapement-mail-')), `${name.replace(/[^\w.-]+/g, '-')}.html`);
  const text = mail.text ?? '(no content is kept)';
  const html =
    mail.html ?? `<!doctype html><meta charset="utf-8"><pre>${text.replace(/[&<]/g, (char) => (char === '&' ? '&amp;' : '&lt;'))}</pre>`;
  writeFileSync(file, html, { mode: 0o600 });
  return file;
}

/** The lines of a mail's text, each made safe. Empty lines stay: they are part of the text. */
export function textLines(text: string): string[] {
  return text.split(/\r\n|[\n\r]/).map((line) => cleanLines(line)[0] ?? '');
}

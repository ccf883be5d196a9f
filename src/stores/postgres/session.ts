/** Runs statements, either on a connection of the engine or in a transaction of the application. */

/** A bound value. Transactions of the application accept only texts. */
export type Value = string | number | boolean | null | readonly (string | number | null)[];

export interface Session {
  /** Returns the rows of a query, or of a change with RETURNING. */
  rows<Row>(sql: string, values?: readonly Value[]): Promise<Row[]>;
  /** Runs a statement that returns no rows. */
  run(sql: string, values?: readonly Value[]): Promise<void>;
  /** Runs several statements in one text, without values. */
  script(sql: string): Promise<void>;
}

/** Replaces what a text column cannot hold, NUL and lone surrogates, with U+FFFD. */
export function clean(text: string): string {
  const whole = text.isWellFormed() ? text : text.toWellFormed();
  return whole.includes('\0') ? whole.replaceAll('\0', '\ufffd') : whole;
}

export function cleaned<Text extends string | null>(text: Text): Text {
  return text === null ? text : (clean(text) as Text);
}

/** JSON for `json_populate_recordset`: objects keyed by column. */
export function records(rows: readonly object[]): string {
  return JSON.stringify(rows, (_, value: unknown) => (typeof value === 'string' ? clean(value) : value));
}

/** A JSON array of texts. */
export function texts(values: readonly string[]): string {
  return JSON.stringify(values.map(clean));
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

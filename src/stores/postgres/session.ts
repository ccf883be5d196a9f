/** How statements are run: on a connection of the engine, or in a transaction of the application. */

/** A value that is bound to a statement. In a transaction of the application: texts alone. */
export type Value = string | number | boolean | null | readonly (string | number | null)[];

export interface Session {
  /** The rows of a query, or of a change with RETURNING. */
  rows<Row>(sql: string, values?: readonly Value[]): Promise<Row[]>;
  /** A statement that returns no rows. */
  run(sql: string, values?: readonly Value[]): Promise<void>;
  /** Several statements in one text, without values. */
  script(sql: string): Promise<void>;
}

/** What a text column cannot hold: NUL, and halves of surrogate pairs. Both are replaced by U+FFFD. */
export function clean(text: string): string {
  const whole = text.isWellFormed() ? text : text.toWellFormed();
  return whole.includes('\0') ? whole.replaceAll('\0', '\ufffd') : whole;
}

export function cleaned<Text extends string | null>(text: Text): Text {
  return text === null ? text : (clean(text) as Text);
}

/** JSON for `json_populate_recordset`: objects whose keys are columns. */
export function records(rows: readonly object[]): string {
  return JSON.stringify(rows, (_, value: unknown) => (typeof value === 'string' ? clean(value) : value));
}

/** A JSON array of texts. */
export function texts(values: readonly string[]): string {
  return JSON.stringify(values.map(clean));
}

/** A quoted name. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

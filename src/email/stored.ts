/**
 * How a message is stored with a job: addresses and subject are the job's input, which lists show. Everything else is a blob, with one more
 * for each piece of bytes, so that neither text nor files appear in a list or a log.
 */
import type { TaskContext, TaskResult } from 'escapement';
import type { MailMessage } from './message.ts';

/** The input of a job that sends a stored message. */
export interface StoredInput {
  from: string;
  to: string[];
  subject: string;
  /** The number of pieces of bytes. */
  parts: number;
}

/** The keys that mark values which JSON cannot represent. */
const marks = ['$part', '$date', '$entries'] as const;

const messageBlob = 'message';
const partBlob = (n: number) => `part.${n}`;

interface Pieces {
  readonly blob: (name: string) => Promise<Uint8Array | null>;
}

/** @param message with all content in memory */
export function encodeMessage(message: MailMessage): { blobs: Record<string, Uint8Array>; parts: number } {
  const blobs: Record<string, Uint8Array> = {};
  let parts = 0;
  const encoded = (value: unknown): unknown => {
    if (value instanceof Uint8Array) {
      blobs[partBlob(parts)] = value;
      return { $part: parts++ };
    }
    if (value instanceof Date) return { $date: value.toISOString() };
    if (Array.isArray(value)) return value.map(encoded);
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value).map(([key, part]): [string, unknown] => [key, encoded(part)]);
    // Escapes data that looks like one of our own markers.
    return marks.some((mark) => mark in value) ? { $entries: entries } : Object.fromEntries(entries);
  };
  const text = JSON.stringify(encoded(message));
  blobs[messageBlob] = Buffer.from(text);
  return { blobs, parts };
}

/** The message stored with the attempt's job; null if it has none. */
export async function decodeMessage(ctx: TaskContext, parts: number): Promise<MailMessage | null> {
  const blobs = await blobsOf({ blob: (name) => ctx.blob(name) }, parts);
  const text = blobs?.[messageBlob];
  if (!text || !blobs) return null;
  const decoded = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(decoded);
    if (typeof value !== 'object' || value === null) return value;
    const { $part, $date, $entries } = value as { $part?: unknown; $date?: unknown; $entries?: unknown };
    if (Array.isArray($entries)) return Object.fromEntries($entries.map(([key, part]) => [key, decoded(part)]));
    if (typeof $part === 'number') return Buffer.from(blobs[partBlob($part)] ?? []);
    if (typeof $date === 'string') return new Date($date);
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, decoded(part)]));
  };
  return decoded(JSON.parse(Buffer.from(text).toString())) as MailMessage;
}

/** The blobs that a stored message was enqueued with; undefined for jobs of other kinds. */
export async function storedBlobs(result: TaskResult): Promise<Record<string, Uint8Array> | undefined> {
  const parts = (result.input as Partial<StoredInput> | null)?.parts;
  return typeof parts === 'number' ? blobsOf({ blob: (name) => result.blob(name) }, parts) : undefined;
}

async function blobsOf({ blob }: Pieces, parts: number): Promise<Record<string, Uint8Array> | undefined> {
  const message = await blob(messageBlob);
  if (!message) return undefined;
  const blobs: Record<string, Uint8Array> = { [messageBlob]: message };
  for (let n = 0; n < parts; n++) {
    const bytes = await blob(partBlob(n));
    if (bytes) blobs[partBlob(n)] = bytes;
  }
  return blobs;
}

/**
 * Brings all content of a message into memory: streams and files become bytes, so that a message can be stored, sent again and displayed.
 * URLs are left unchanged; the transport reads them. The given message is not changed.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError } from 'escapement';
import type { MailMessage } from './message.ts';

/** Fields whose value is content. */
const contents: ReadonlySet<string> = new Set(['text', 'html', 'watchHtml', 'amp', 'icalEvent', 'raw', 'attachments', 'alternatives']);

export interface InlineOptions {
  /** Maximum number of bytes in total. */
  readonly limit: number;
  /** True: everything must be plain data, and credentials are refused, because the message will be stored. */
  readonly stored: boolean;
}

/** Content that has not been read yet. */
interface Load {
  readonly path: string;
  /** Undefined if it can only be read asynchronously. */
  readonly now: (() => Buffer) | undefined;
  later(): Promise<Buffer>;
  set(bytes: Buffer): void;
}

type Plain = Record<string, unknown>;

/**
 * Reads everything synchronously.
 * @throws InputError for a stream, which cannot be read synchronously
 */
export function inlineNow(message: MailMessage, options: InlineOptions): MailMessage {
  const { copy, loads, count } = walk(message, options);
  for (const load of loads) {
    if (!load.now) throw new InputError(`${load.path}: a stream cannot be read inside a synchronous transaction; pass a buffer or a path`);
    load.set(count(load.path, load.now()));
  }
  return copy;
}

/** Reads everything, in order. */
export async function inline(message: MailMessage, options: InlineOptions): Promise<MailMessage> {
  const { copy, loads, count } = walk(message, options);
  for (const load of loads) load.set(count(load.path, await load.later()));
  return copy;
}

function walk(message: MailMessage, { limit, stored }: InlineOptions) {
  const loads: Load[] = [];
  let total = 0;
  const count = (path: string, bytes: Buffer): Buffer => {
    total += bytes.length;
    if (total <= limit) return bytes;
    throw new InputError(
      `${path}: the message has more than ${limit} bytes of content; link to large files instead, or raise the option limit`,
      { path },
    );
  };
  const refuse = (path: string, why: string): never => {
    throw new InputError(`${path}: ${why}`, { path });
  };
  const { disableFileAccess } = message;

  /** @param isContent whether the value is content, where `path` names a file */
  const copyOf = (value: unknown, path: string, isContent: boolean, set: (value: unknown) => void): unknown => {
    if (value === null || value === undefined || typeof value === 'boolean') return value;
    if (typeof value === 'string') {
      if (isContent) count(path, Buffer.from(value));
      return value;
    }
    if (typeof value === 'number') return Number.isFinite(value) || !stored ? value : refuse(path, `${value} cannot be stored`);
    if (Buffer.isBuffer(value)) return count(path, value);
    if (value instanceof Uint8Array) return count(path, Buffer.from(value.buffer, value.byteOffset, value.byteLength));
    if (value instanceof Date) return value;
    if (value instanceof URL) return value.href;
    if (isStream(value)) {
      if (!isContent) return refuse(path, 'a stream cannot be stored here');
      loads.push({ path, now: undefined, later: () => readStream(value, limit), set });
      return undefined;
    }
    if (Array.isArray(value)) {
      const copies: unknown[] = [];
      for (const [i, item] of value.entries()) {
        copies.push(
          copyOf(item, `${path}[${i}]`, isContent, (bytes) => {
            copies[i] = bytes;
          }),
        );
      }
      return copies;
    }
    if (isPlain(value)) return isContent ? contentOf(value, path) : plainOf(value, path);
    if (!stored) return value;
    return refuse(path, `${nameOf(value)} cannot be stored with the message; pass plain data, or set it on the transport that sends`);
  };

  const plainOf = (value: Plain, path: string): Plain => {
    const copy: Plain = {};
    for (const [key, part] of Object.entries(value)) {
      copy[key] = copyOf(part, path === '' ? key : `${path}.${key}`, path === '' && contents.has(key), (bytes) => {
        copy[key] = bytes;
      });
    }
    return copy;
  };

  /** An object such as `{ path }` or `{ content }`. Its other fields are plain data. */
  const contentOf = (value: Plain, path: string): Plain => {
    const copy: Plain = {};
    for (const [key, part] of Object.entries(value)) {
      const here = `${path}.${key}`;
      const file = key === 'path' && value.content === undefined ? localFile(part) : undefined;
      if (file === undefined) {
        copy[key] = copyOf(part, here, key === 'content' || key === 'raw', (bytes) => {
          copy[key] = bytes;
        });
        continue;
      }
      if (disableFileAccess) refuse(here, 'files cannot be attached, because disableFileAccess is set');
      if (value.filename === undefined) copy.filename = basename(file);
      const missing = (error: unknown): never => {
        throw new InputError(`${here}: the file cannot be read: ${(error as Error).message}`, { path: here, cause: error });
      };
      loads.push({
        path: here,
        now: () => {
          try {
            return readFileSync(file);
          } catch (error) {
            return missing(error);
          }
        },
        later: () => readFile(file).catch(missing),
        set: (bytes) => {
          copy.content = bytes;
        },
      });
    }
    return copy;
  };

  if (stored && (message as Plain).auth !== undefined) refuse('auth', 'credentials are not stored; set them on the transport that sends');
  return { copy: plainOf(message as Plain, '') as MailMessage, loads, count };
}

/** The file that a path names; undefined for a URL, which the transport reads. */
function localFile(path: unknown): string | undefined {
  if (path instanceof URL || (typeof path === 'string' && path.startsWith('file:'))) {
    const url = new URL(path);
    return url.protocol === 'file:' ? fileURLToPath(url) : undefined;
  }
  return typeof path === 'string' && !/^(https?|data):/i.test(path) ? path : undefined;
}

function isStream(value: object | ((...args: never) => unknown)): value is AsyncIterable<unknown> {
  return typeof (value as { pipe?: unknown }).pipe === 'function' && Symbol.asyncIterator in value;
}

/** Stops one chunk past the limit, so that the caller can refuse the content. */
async function readStream(stream: AsyncIterable<unknown>, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : Buffer.from(chunk as Uint8Array);
    chunks.push(bytes);
    size += bytes.length;
    if (size > limit) break;
  }
  return Buffer.concat(chunks);
}

function isPlain(value: unknown): value is Plain {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

function nameOf(value: unknown): string {
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object') return `a ${typeof value}`;
  return `an object of the class ${value?.constructor?.name ?? 'unknown'}`;
}

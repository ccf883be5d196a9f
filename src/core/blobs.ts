/** Checks the bytes that are stored with a job. Stores accept whatever passes. */
import { show } from './duration.ts';
import { InputError } from './errors.ts';

/** Maximum number of bytes per enqueued job, and per call of `ctx.saveBlob`: 32 MB. */
export const maxBlobBytes = 32_000_000;

const namePattern = /^[A-Za-z0-9_.:/-]{1,128}$/;

/**
 * @param what the call, for error messages
 * @throws InputError if the name or the bytes cannot be stored
 */
export function checkBlob(name: unknown, bytes: unknown, what: string): void {
  if (typeof name !== 'string' || !namePattern.test(name))
    throw new InputError(`${what}: a blob's name must consist of 1 to 128 letters, digits and _ . : / -; got ${show(name)}`);
  if (!(bytes instanceof Uint8Array)) throw new InputError(`${what}: blob ${name} must be a Uint8Array or a Buffer; got ${show(bytes)}`);
  if (bytes.byteLength > maxBlobBytes)
    throw new InputError(`${what}: blob ${name} has ${bytes.byteLength} bytes; the maximum is ${maxBlobBytes}`);
}

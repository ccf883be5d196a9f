/** Describes the location of the jobs for the helper thread (`keeper-thread.ts`). Only plain values can be passed to a thread. */
import { clientOptions, type Place } from './connection.ts';

export interface KeeperPlace {
  readonly schema: string;
  /** Options for a client of the package `pg`. */
  readonly client: object;
}

/** The client options that say where the server is and how to reach it. */
const names = ['connectionString', 'host', 'port', 'user', 'database', 'password', 'ssl', 'sslmode', 'sslnegotiation', 'options'];

/** @throws Error if an option cannot be passed to a thread, such as a function that checks certificates */
export function keeperPlace(place: Place): KeeperPlace {
  const options = clientOptions(place) as Readonly<Record<string, unknown>> | undefined;
  if (!options) throw new Error('the pool does not have the options of a Pool of the package pg');
  if (typeof options.password === 'function') throw new Error('the password of the pool is a function');
  const client = Object.fromEntries(names.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]));
  return { schema: place.schema, client: structuredClone({ ...client, ...(client.ssl !== undefined && { ssl: plainSsl(client.ssl) }) }) };
}

/** A pool makes the key non-enumerable. */
function plainSsl(ssl: unknown): unknown {
  if (typeof ssl !== 'object' || ssl === null) return ssl;
  const { key } = ssl as { readonly key?: unknown };
  return { ...ssl, ...(key !== undefined && { key }) };
}

/** Files, compression, cryptography, images and other work on Node's thread pool. */
import { generateKeyPair, pbkdf2, randomBytes, scrypt } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { createReadStream, createWriteStream, readFile as readFileWithCallback } from 'node:fs';
import { mkdtemp, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { brotliCompress, createGunzip, createGzip, gunzip, gzip } from 'node:zlib';
import Database from 'better-sqlite3';
import { sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/better-sqlite3';
import { Kysely, SqliteDialect } from 'kysely';
import { pino } from 'pino';
import sharp from 'sharp';
import type { Case, Run } from '../case.ts';

const here = import.meta.filename;

/** A task with a directory that exists before the simulation. */
const inDirectory = (use: (directory: string) => Run) => async () => {
  const directory = await mkdtemp(join(tmpdir(), 'escapement-real-code-'));
  return { run: use(directory), close: () => rm(directory, { recursive: true, force: true }) };
};

const data = Buffer.alloc(200_000, 'escapement ');
const large = Buffer.alloc(30_000_000);
const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
// Missing in the types of Node.js.
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: {
    compile(bytes: Uint8Array): Promise<object>;
    instantiate(bytes: Uint8Array): Promise<{ module: object; instance: object }>;
    Module: new () => object;
    Instance: new () => object;
  };
};
let imports = 0;

/** Work beside a timer that must not fire first. */
async function guarded<Value>(work: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('late')), 1_000);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

const fileCases: Case[] = [
  { library: 'node:fs', name: 'readFile', run: async () => (await guarded(readFile(here))).length > 0, expect: true },
  {
    library: 'node:fs',
    name: 'readFile with a callback',
    run: () => new Promise((resolve) => readFileWithCallback(here, (_, content) => resolve(content.length > 0))),
    expect: true,
  },
  {
    library: 'node:fs',
    name: 'a file written, renamed and listed',
    setup: inDirectory((directory) => async (input) => {
      await writeFile(join(directory, `${input}.part`), data);
      await rename(join(directory, `${input}.part`), join(directory, `${input}.txt`));
      return [(await stat(join(directory, `${input}.txt`))).size, (await readdir(directory)).includes(`${input}.txt`)];
    }),
    expect: [data.length, true],
  },
  {
    library: 'node:fs',
    name: 'a FileHandle',
    run: async () => {
      await using file = await open(here);
      return (await file.read(Buffer.alloc(10), 0, 10)).bytesRead;
    },
    expect: 10,
  },
  {
    library: 'node:fs',
    name: 'a stream read line by line',
    run: async () => {
      let lines = 0;
      for await (const _ of createInterface({ input: createReadStream(here, { highWaterMark: 512 }) })) lines++;
      return lines > 0;
    },
    expect: true,
  },
  {
    library: 'node:fs',
    name: 'a pipeline through gzip into a file, and back',
    setup: inDirectory((directory) => async (input) => {
      const file = join(directory, `${input}.gz`);
      await pipeline(createReadStream(here), createGzip(), createWriteStream(file));
      const back = createReadStream(file).pipe(createGunzip());
      return (await text(back)) === (await readFile(here, 'utf8'));
    }),
    expect: true,
  },
  {
    library: 'node:fs',
    name: 'a module-level log file',
    setup: inDirectory((directory) => {
      const log = createWriteStream(join(directory, 'log'));
      return () => new Promise((resolve) => log.write('a line\n', () => resolve('written')));
    }),
    expect: 'written',
  },
  {
    library: 'node:zlib',
    name: 'gzip and gunzip',
    run: async () => (await promisify(gunzip)(await guarded(promisify(gzip)(data)))).equals(data),
    expect: true,
  },
  {
    library: 'node:zlib',
    name: 'brotli',
    run: async () => (await guarded(promisify(brotliCompress)(data))).length < data.length,
    expect: true,
  },
  {
    library: 'web streams',
    name: 'CompressionStream',
    run: async () => {
      const zipped = new Blob([data]).stream().pipeThrough(new CompressionStream('gzip'));
      const back = new Response(zipped.pipeThrough(new DecompressionStream('gzip')));
      return (await back.arrayBuffer()).byteLength;
    },
    expect: data.length,
  },
  {
    library: 'web streams',
    name: 'Blob',
    run: async () => (await guarded(new Blob([data]).arrayBuffer())).byteLength,
    expect: data.length,
  },
  {
    library: 'import()',
    name: 'a module that is already loaded',
    setup: async () => {
      await import('../fixtures/late.ts');
      return { run: async () => (await import('../fixtures/late.ts')).answer };
    },
    expect: 42,
  },
  {
    library: 'import()',
    name: 'a module that is loaded for the first time',
    setup: inDirectory((directory) => async (input) => {
      imports += 1;
      const file = join(directory, `late-${input}-${imports}.mjs`);
      await writeFile(file, 'export const answer = 42;');
      return (await guarded(import(/* @vite-ignore */ pathToFileURL(file).href))).answer;
    }),
    expect: 42,
  },
  {
    library: 'node:dns',
    name: "lookup('localhost')",
    run: async () => (await guarded(lookup('localhost'))).address.length > 0,
    expect: true,
  },
];

const cryptoCases: Case[] = [
  {
    library: 'node:crypto',
    name: 'scrypt',
    run: () => guarded(promisify(scrypt)('secret', 'salt', 32)).then((key) => (key as Buffer).length),
    expect: 32,
  },
  {
    library: 'node:crypto',
    name: 'pbkdf2',
    run: async () => (await guarded(promisify(pbkdf2)('secret', 'salt', 20_000, 32, 'sha256'))).length,
    expect: 32,
  },
  { library: 'node:crypto', name: 'randomBytes', run: async () => (await guarded(promisify(randomBytes)(32))).length, expect: 32 },
  {
    library: 'node:crypto',
    name: 'generateKeyPair',
    run: async () => (await guarded(promisify(generateKeyPair)('rsa', { modulusLength: 1024 }))).privateKey.type,
    expect: 'private',
  },
  {
    library: 'crypto.subtle',
    name: 'a digest of 30 MB',
    run: async () => (await guarded(crypto.subtle.digest('SHA-256', large))).byteLength,
    expect: 32,
  },
  {
    library: 'crypto.subtle',
    name: 'PBKDF2',
    run: async () => {
      const key = await crypto.subtle.importKey('raw', new TextEncoder().encode('secret'), 'PBKDF2', false, ['deriveBits']);
      const how = { name: 'PBKDF2', hash: 'SHA-256', salt: new Uint8Array(16), iterations: 50_000 };
      return (await guarded(crypto.subtle.deriveBits(how, key, 256))).byteLength;
    },
    expect: 32,
  },
  {
    library: 'crypto.subtle',
    name: 'a key pair, a signature and its verification',
    run: async () => {
      const how = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
      const { privateKey, publicKey } = await crypto.subtle.generateKey(how, false, ['sign', 'verify']);
      return crypto.subtle.verify(how, publicKey, await guarded(crypto.subtle.sign(how, privateKey, data)), data);
    },
    expect: true,
  },
  {
    library: 'WebAssembly',
    name: 'compile',
    run: async () => (await guarded(WebAssembly.compile(wasm))) instanceof WebAssembly.Module,
    expect: true,
  },
  {
    library: 'WebAssembly',
    name: 'instantiate',
    run: async () => (await guarded(WebAssembly.instantiate(wasm))).instance instanceof WebAssembly.Instance,
    expect: true,
  },
];

const libraryCases: Case[] = [
  {
    library: 'sharp',
    name: 'an image created and resized',
    run: async () => {
      const image = await guarded(
        sharp({ create: { width: 400, height: 400, channels: 3, background: 'red' } })
          .png()
          .toBuffer(),
      );
      return (await guarded(sharp(image).resize(10).toBuffer({ resolveWithObject: true }))).info.width;
    },
    expect: 10,
  },
  {
    library: 'pino',
    name: 'a module-level logger that writes a file asynchronously',
    setup: async () => {
      const directory = await mkdtemp(join(tmpdir(), 'escapement-real-code-'));
      const destination = pino.destination({ dest: join(directory, 'log'), sync: false });
      await once(destination, 'ready');
      const logger = pino(destination);
      const run: Run = async (input) => {
        logger.info({ input }, 'a line');
        await new Promise<void>((resolve, reject) => destination.flush((error) => (error ? reject(error) : resolve())));
        return 'logged';
      };
      const close = async () => {
        destination.end();
        await once(destination, 'close');
        await rm(directory, { recursive: true });
      };
      return { run, close };
    },
    expect: 'logged',
  },
  {
    library: 'pino',
    name: 'a logger without a wait for its writes',
    setup: async () => {
      const directory = await mkdtemp(join(tmpdir(), 'escapement-real-code-'));
      const destination = pino.destination({ dest: join(directory, 'log'), sync: false, minLength: 4_096 });
      await once(destination, 'ready');
      const logger = pino(destination);
      const run: Run = async (input, ctx) => {
        logger.info({ input }, 'before');
        await ctx.sleep('2s');
        logger.info({ input }, 'after');
        return 'done';
      };
      const close = async () => {
        destination.end();
        await once(destination, 'close');
        await rm(directory, { recursive: true });
      };
      return { run, close };
    },
    expect: 'done',
    at: 2_000,
  },
  {
    library: 'better-sqlite3',
    name: 'a module-level database, and a transaction',
    setup: () => {
      const database = new Database(':memory:');
      database.exec('CREATE TABLE note (text TEXT)');
      const insert = database.prepare('INSERT INTO note VALUES (?)');
      return { run: () => database.transaction(() => insert.run('a note').changes)(), close: () => database.close() };
    },
    expect: 1,
  },
  {
    library: 'drizzle-orm',
    name: 'a query on better-sqlite3',
    setup: () => {
      const client = new Database(':memory:');
      const database = drizzle({ client });
      return { run: () => database.get<{ answer: number }>(sql`SELECT 42 AS answer`).answer, close: () => client.close() };
    },
    expect: 42,
  },
  {
    library: 'kysely',
    name: 'a query and a transaction on better-sqlite3',
    setup: async () => {
      const database = new Kysely<{ note: { text: string } }>({ dialect: new SqliteDialect({ database: new Database(':memory:') }) });
      await database.schema.createTable('note').addColumn('text', 'text').execute();
      const run = async () => {
        await database.transaction().execute((transaction) => transaction.insertInto('note').values({ text: 'a note' }).execute());
        return (await guarded(database.selectFrom('note').select('text').executeTakeFirstOrThrow())).text;
      };
      return { run, close: () => database.destroy() };
    },
    expect: 'a note',
  },
];

export const fileAndCryptoCases: Case[] = [...fileCases, ...cryptoCases, ...libraryCases];

/** A mail server on loopback that does as a test says: it takes mail, or refuses, defers, stalls, or takes it and loses its own answer. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';

export interface Received {
  readonly from: string;
  readonly to: readonly string[];
  readonly raw: string;
  readonly messageId: string;
}

export interface Behaviour extends SMTPServerOptions {
  /** What the server says to a recipient: a code and a text; undefined takes it. */
  rcpt?(address: string): string | undefined;
  /** What it says after a message was transferred. `drop`: it has the message, and closes the connection without an answer. */
  data?(mail: Received): string | 'drop' | 'stall' | undefined | Promise<undefined>;
}

export interface Server {
  readonly port: number;
  /** Every message that was taken. */
  readonly received: Received[];
  /** How many connections there were. */
  readonly connections: () => number;
  /** How many are open. */
  readonly open: () => number;
  close(): Promise<void>;
}

export async function startServer({ rcpt, data, ...options }: Behaviour = {}): Promise<Server> {
  const received: Received[] = [];
  let connections = 0;
  const sockets = new Set<{ destroy(): void }>();
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: options.cert ? [] : ['STARTTLS'],
    disableReverseLookup: true,
    closeTimeout: 10,
    ...options,
    onConnect(_session, callback) {
      connections += 1;
      callback();
    },
    onRcptTo({ address }, _session, callback) {
      callback(failureOf(rcpt?.(address)));
    },
    onData(stream, session, callback) {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        const raw = Buffer.concat(chunks).toString();
        const { mailFrom, rcptTo } = session.envelope;
        const mail = {
          from: mailFrom ? mailFrom.address : '',
          to: rcptTo.map(({ address }) => address),
          raw,
          messageId: /^message-id:\s*(\S+)/im.exec(raw)?.[1] ?? '',
        };
        const answer = data?.(mail);
        if (answer instanceof Promise) {
          received.push(mail);
          void answer.then(() => callback(null));
          return;
        }
        if (answer === undefined || answer === 'drop') received.push(mail);
        if (answer === 'stall') return;
        if (answer === 'drop') for (const socket of sockets) socket.destroy();
        else callback(failureOf(answer));
      });
    },
  });
  server.on('error', () => {});
  server.server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  return {
    port: (server.server.address() as AddressInfo).port,
    received,
    connections: () => connections,
    open: () => sockets.size,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function failureOf(answer: string | undefined): Error | null {
  if (answer === undefined) return null;
  return Object.assign(new Error(answer.slice(4)), { responseCode: Number(answer.slice(0, 3)) });
}

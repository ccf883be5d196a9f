/** A mail server on loopback that a test controls: it accepts, rejects, defers or stalls mail, or accepts it and loses the response. */
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
  /** The response to a recipient: a code and a text; undefined accepts it. */
  rcpt?(address: string): string | undefined;
  /** The response after the transfer. `drop`: it has the message, and closes the connection without responding. */
  data?(mail: Received): string | 'drop' | 'stall' | undefined | Promise<undefined>;
}

export interface Server {
  readonly port: number;
  /** Every accepted message. */
  readonly received: Received[];
  /** The number of connections. */
  readonly connections: () => number;
  /** The number of open connections. */
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

/** Mail, through a server outside the process and one inside. */
import type { AddressInfo, Server } from 'node:net';
import { createTransport, type Transporter } from 'nodemailer';
import { SMTPServer } from 'smtp-server';
import type { Case } from '../case.ts';
import { outside } from '../outside.ts';

const send = async (mailer: Transporter) =>
  (await mailer.sendMail({ from: 'shop@shop.test', to: 'ada@shop.test', subject: 'Your order', text: 'Thank you.' })).accepted;

/** A mail server in the test's process, which takes a while for each mail. */
async function serverHere(delayMs: number) {
  const smtp = new SMTPServer({
    disabledCommands: ['STARTTLS', 'AUTH'],
    onData(stream, _session, done) {
      stream.resume();
      stream.on('end', () => setTimeout(done, delayMs));
    },
  });
  const server = await new Promise<Server>((resolve) => {
    const listening: Server = smtp.listen(0, '127.0.0.1', () => resolve(listening));
  });
  return { port: (server.address() as AddressInfo).port, close: () => new Promise<void>((resolve) => smtp.close(resolve)) };
}

export const mailCases: Case[] = [
  {
    library: 'nodemailer',
    name: 'a connection per mail',
    setup: () => {
      const mailer = createTransport({ ...outside.smtp() });
      return { run: () => send(mailer), close: () => mailer.close() };
    },
    expect: ['ada@shop.test'],
  },
  {
    library: 'nodemailer',
    name: 'a transport created in the task',
    run: () => send(createTransport({ ...outside.smtp(), connectionTimeout: 5_000, greetingTimeout: 5_000, socketTimeout: 5_000 })),
    without: ['timeout'],
    expect: ['ada@shop.test'],
  },
  {
    library: 'nodemailer',
    name: 'a module-level pool',
    setup: async () => {
      const mailer = createTransport({ ...outside.smtp(), pool: true });
      await send(mailer);
      return { run: () => send(mailer), close: () => mailer.close() };
    },
    expect: ['ada@shop.test'],
  },
  {
    library: 'smtp-server',
    name: 'a server in the same process that takes 2 s per mail',
    setup: async () => {
      const { port, close } = await serverHere(2_000);
      const mailer = createTransport({ host: '127.0.0.1', port });
      return {
        run: () => send(mailer),
        close: async () => {
          mailer.close();
          await close();
        },
      };
    },
    expect: ['ada@shop.test'],
    // It greets a client after 100 ms.
    at: 2_100,
  },
  {
    library: 'smtp-server',
    name: 'a server in the same process, with a pool',
    setup: async () => {
      const { port, close } = await serverHere(0);
      const mailer = createTransport({ host: '127.0.0.1', port, pool: true, maxConnections: 1 });
      await send(mailer);
      return {
        run: () => send(mailer),
        close: async () => {
          mailer.close();
          await close();
        },
      };
    },
    expect: ['ada@shop.test'],
    // A timer of 0 ms fires after 1 ms; a new connection, for the second simulation, is greeted after 100 ms.
    between: [1, 101],
    // One mail after another.
    without: ['seeded'],
  },
];

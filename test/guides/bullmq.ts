/** The application in the guide for BullMQ users (docs/migrating.md); its imports are not shown there. */
import { createTasks, memory } from 'escapement';

export const outside = { sent: [] as string[], rendered: [] as string[], now: () => new Date() };

// guide: bullmq
export const tasks = createTasks({
  backend: memory(), // postgres({ connectionString }) for several machines
  queues: { default: {}, mail: { concurrency: 10, rate: { limit: 100, per: '1m' } } }, // limiter: { max: 100, duration: 60_000 }
});

export const sendMail = tasks.define('send', {
  queue: 'mail',
  retry: { maxAttempts: 3, backoff: '1s' }, // attempts: 3, backoff: { type: 'fixed', delay: 1000 }
  retention: { successful: '1h' }, // removeOnComplete: { age: 3600 }
  async run({ to }: { to: string }, ctx) {
    ctx.progress(0.5); // job.updateProgress(50)
    ctx.log.info('sending', { to }); // job.log(…)
    outside.sent.push(to);
    return { to };
  },
});
export const renderPage = tasks.define('page', ({ n }: { n: number }) => `page ${n}`);
export const bindBook = tasks.define('book', (pages: string[]) => void outside.rendered.push(pages.join(', ')));

export async function addJobs() {
  await sendMail.enqueue({ to: 'ada' }); // queue.add('send', { to: 'ada' })
  await sendMail.using({ runAfter: '5m', priority: 10 }).enqueue({ to: 'bob' }); // { delay: 300_000, priority: 1 }
  await sendMail.using({ id: 'welcome-eve' }).enqueue({ to: 'eve' }); // { jobId: 'welcome-eve' }
  await sendMail.using({ id: 'welcome-eve' }).enqueue({ to: 'eve' }); // no second job
  // flowProducer.add({ name: 'book', children: [{ name: 'page' }, { name: 'page' }] })
  await tasks
    .map(renderPage, [{ n: 1 }, { n: 2 }])
    .then(bindBook)
    .enqueue();
}
tasks.schedule('daily', { task: sendMail, input: { to: 'team' }, cron: '0 9 * * *', timezone: 'Europe/Berlin' }); // upsertJobScheduler
tasks.on('failed', ({ job, error }) => console.error(job.id, error?.message)); // queueEvents.on('failed', …)
// end

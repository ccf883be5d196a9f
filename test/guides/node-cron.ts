/** The application in the guide for node-cron users (docs/migrating.md); its imports are not shown there. */
import { createTasks, memory } from 'escapement';

export const outside = { backups: [] as string[], pings: 0, takes: 0 };

// guide: node-cron
export const tasks = createTasks({ backend: memory() });

export const backUp = tasks.define('backup', {
  retry: { maxAttempts: 5 }, // node-cron does not retry
  async run(_input: void, ctx) {
    await ctx.sleep(outside.takes);
    outside.backups.push(ctx.scheduledAt?.toISOString() ?? '');
  },
});
export const ping = tasks.define('ping', () => void outside.pings++);

// cron.schedule('0 3 * * *', backUp, { timezone: 'Europe/Berlin', noOverlap: true })
tasks.schedule('backup', { task: backUp, cron: '0 3 * * *', timezone: 'Europe/Berlin', overlap: 'skip' });
// cron.schedule('*/30 * * * * *', ping)
tasks.schedule('ping', { task: ping, cron: '*/30 * * * * *' });
// end

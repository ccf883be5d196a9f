/** The application in the guide for pg-boss users (docs/migrating.md); its imports are not shown there. */
import { createTasks, memory } from 'escapement';

export const outside = { exported: [] as number[], synced: [] as string[] };

// guide: pg-boss
export const tasks = createTasks({ backend: memory() }); // postgres({ connectionString })

export const exportOrders = tasks.define('export-orders', {
  retry: { maxAttempts: 6, backoff: '30s' }, // retryLimit: 5, retryDelay: 30
  timeout: '15m', // expireInSeconds: 900
  retention: { successful: '14d' }, // deleteAfterSeconds
  run: async ({ day }: { day: number }) => void outside.exported.push(day), // boss.work('export-orders', async ([job]) => …)
});
export const syncAccount = tasks.define('sync-account', {
  unique: { key: ({ account }) => account, within: '10m' }, // singletonKey, singletonSeconds: 600
  run: async ({ account }: { account: string }) => void outside.synced.push(account),
});

export async function send() {
  await exportOrders.enqueue({ day: 1 }); // boss.send('export-orders', { day: 1 })
  await exportOrders.using({ runAfter: '1h' }).enqueue({ day: 2 }); // boss.sendAfter('export-orders', { day: 2 }, null, 3600)
  await exportOrders.enqueueMany([{ day: 3 }, { day: 4 }]); // boss.insert('export-orders', […])
  await syncAccount.enqueue({ account: 'a' });
  await syncAccount.enqueue({ account: 'a' }); // one job
}
tasks.schedule('nightly', { task: exportOrders, input: { day: 0 }, cron: '0 3 * * *', timezone: 'Europe/Berlin' }); // boss.schedule
// end

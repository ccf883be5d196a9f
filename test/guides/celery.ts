/** The application in the guide for Celery users (docs/migrating.md); its imports are not shown there. */
import { createTasks, exponential, memory, PermanentError } from 'escapement';

export const outside = { pages: new Map<string, string>(), saved: [] as string[], reports: [] as number[], fails: 0 };

// guide: celery
export const tasks = createTasks({ backend: memory() }); // sqlite({ file: 'tasks.db' }) in production

export const fetchPage = tasks.define('shop.fetch_page', {
  retry: { maxAttempts: 6, backoff: exponential({ initial: '1s', max: '10m' }), unless: (error) => error instanceof PermanentError },
  timeout: '60s',
  queue: 'crawl',
  async run(url: string) {
    if (outside.fails-- > 0) throw new Error('503');
    return outside.pages.get(url) ?? '';
  },
});
export const countWords = tasks.define('shop.count_words', (page: string) => page.split(/\s+/).filter((word) => word !== '').length);
export const report = tasks.define('shop.report', (counts: number[]) => {
  outside.reports.push(counts.reduce((sum, count) => sum + count, 0));
});

export async function crawl(urls: string[]) {
  await tasks
    .group(urls.map((url) => tasks.chain([fetchPage.with(url), countWords]))) // group(chain(fetch_page.s(url), count_words.s()) for url in urls)
    .then(report) // | report.s()
    .enqueue();
}

export const nightly = tasks.define('shop.nightly', () => crawl([...outside.pages.keys()]));
tasks.schedule('nightly', { task: nightly, cron: '30 3 * * *', timezone: 'Europe/Berlin' }); // beat_schedule
// end

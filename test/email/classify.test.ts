/** The meaning of mail server responses: permanent or temporary, for which recipients, and for how long. */
import { describe, expect, test } from 'vitest';
import { hintMs, isPermanent, verdictOfError, verdictOfInfo } from '../../src/email/classify.ts';

const smtp = (responseCode: number, text: string, command = 'RCPT TO', code = 'EENVELOPE') =>
  Object.assign(new Error(text), { responseCode, response: `${responseCode} ${text}`, command, code });

describe('permanent and temporary failures', () => {
  test.each<[string, unknown, boolean]>([
    ['an unknown user', smtp(550, '5.1.1 unknown user'), true],
    ['a rejected message', smtp(554, 'spam', 'DATA', 'EMESSAGE'), true],
    ['a full mailbox', smtp(452, 'full'), false],
    ['greylisting', smtp(451, '4.7.1 greylisted'), false],
    ['a server that shuts down', smtp(421, 'closing', 'DATA'), false],
    ['a greeting that rejects the client', smtp(554, 'no service for you', 'CONN', 'ECONNECTION'), false],
    ['a wrong password', smtp(535, 'bad credentials', 'AUTH PLAIN', 'EAUTH'), false],
    ['a message without a recipient', Object.assign(new Error('No recipients defined'), { code: 'EENVELOPE' }), true],
    ['a message that is too large', Object.assign(new Error('Message size larger than allowed'), { code: 'EMESSAGE' }), true],
    ['a refused connection', Object.assign(new Error('connect ECONNREFUSED'), { code: 'ESOCKET' }), false],
    ['a name that does not resolve', Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'EDNS' }), false],
    ['an invalid certificate', Object.assign(new Error('self-signed certificate'), { code: 'ETLS' }), false],
    ['a rejection by SES', Object.assign(new Error('Email address is not verified'), { name: 'MessageRejected' }), true],
    ['throttling by SES', Object.assign(new Error('rate'), { name: 'ThrottlingException', $metadata: { httpStatusCode: 400 } }), false],
    ['an outage of SES', Object.assign(new Error('oops'), { $metadata: { httpStatusCode: 503 } }), false],
    ['an API that rejects the message', Object.assign(new Error('bad request'), { statusCode: 400 }), true],
    ['an API that asks to wait', Object.assign(new Error('slow down'), { statusCode: 429 }), false],
    ['sendmail with an unknown user', new Error('Sendmail exited with code 67'), true],
    ['a temporary sendmail failure', new Error('Sendmail exited with code 75'), false],
    ['a text', 'no', false],
    ['nothing', undefined, false],
  ])('%s', (_, error, expected) => {
    expect(isPermanent(error)).toBe(expected);
  });
});

describe('retry delays', () => {
  test.each<[string, number | undefined]>([
    ['450 4.7.1 Greylisted, try again in 300 seconds', 300_000],
    ['451 Please try again in 5 minutes', 300_000],
    ['451 4.7.650 The mail server has been temporarily rate limited; retry after 2 hours', 7_200_000],
    ['450 greylisted for 90 s', 90_000],
    ['451 try again later', undefined],
    ['421 too many connections from 10 hosts', undefined],
  ])('%s', (response, expected) => {
    expect(hintMs({ response, responseCode: Number(response.slice(0, 3)) })).toBe(expected);
  });

  test('come from a header or a property', () => {
    expect(hintMs({ headers: { 'retry-after': '30' } })).toBe(30_000);
    expect(hintMs({ retryAfter: 7 })).toBe(7_000);
    expect(hintMs({ headers: { 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' } })).toBeUndefined();
  });

  test('are at most a day, and none follows a permanent rejection', () => {
    expect(verdictOfError(smtp(451, 'try again in 999 hours'), ['a@b.c']).afterMs).toBe(86_400_000);
    expect(hintMs({ response: '550 try again in 5 minutes', responseCode: 550 })).toBeUndefined();
  });
});

describe('recipients', () => {
  const to = ['ada@example.org', 'bob@example.org', 'eve@example.org'];

  test('each have their own response', () => {
    const rejectedErrors = [
      Object.assign(smtp(550, 'no such user'), { recipient: 'bob@example.org' }),
      Object.assign(smtp(452, 'full, try again in 1 hour'), { recipient: 'eve@example.org' }),
    ];
    const info = { accepted: ['ada@example.org'], rejected: ['bob@example.org', 'eve@example.org'], rejectedErrors };
    expect(verdictOfInfo(info, to)).toEqual({
      accepted: ['ada@example.org'],
      refused: [{ address: 'bob@example.org', response: '550 no such user' }],
      deferred: [{ address: 'eve@example.org', response: '452 full, try again in 1 hour' }],
      afterMs: 3_600_000,
    });
    const none = Object.assign(smtp(452, 'all were rejected'), { rejectedErrors });
    expect(verdictOfError(none, to)).toMatchObject({
      accepted: [],
      refused: [{ address: 'bob@example.org' }],
      deferred: [{ address: 'ada@example.org' }, { address: 'eve@example.org' }],
    });
  });

  test('are all accepted by a transport that reports no rejections', () => {
    expect(verdictOfInfo({ response: 'ok' }, to).accepted).toEqual(to);
    expect(verdictOfInfo(undefined, to).accepted).toEqual(to);
    expect(verdictOfInfo({ rejected: [{ address: 'bob@example.org' }] }, to)).toMatchObject({ refused: [{ address: 'bob@example.org' }] });
  });

  test('share a failure that concerns the whole message', () => {
    expect(verdictOfError(smtp(554, 'spam', 'DATA', 'EMESSAGE'), to).refused.map(({ address }) => address)).toEqual(to);
    expect(verdictOfError(new Error('socket\n closed'), to).deferred[0]).toEqual({ address: 'ada@example.org', response: 'socket closed' });
  });
});

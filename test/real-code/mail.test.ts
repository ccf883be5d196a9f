/** Mail sent by tasks. */
import { mailCases } from './cases/mail.ts';
import { matrix } from './matrix.ts';

matrix(mailCases);

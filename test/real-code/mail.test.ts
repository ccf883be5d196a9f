/** Mail sent by tasks. */
import 'escapement/testing';
import { mailCases } from './cases/mail.ts';
import { matrix } from './matrix.ts';

matrix(mailCases);

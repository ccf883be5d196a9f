/** Files, compression, cryptography and embedded databases in tasks. */
import 'escapement/testing';
import { fileAndCryptoCases } from './cases/files-and-crypto.ts';
import { matrix } from './matrix.ts';

matrix(fileAndCryptoCases);

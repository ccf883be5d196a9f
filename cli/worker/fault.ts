/** Describes a thrown value as plain text. Any value can be thrown. */
export function recordedText(fault: unknown): { readonly name: string; readonly message: string; readonly stack: string } {
  try {
    if (fault instanceof Error) return { name: fault.name, message: `${fault.name}: ${fault.message}`, stack: String(fault.stack ?? '') };
    return { name: typeof fault, message: String(fault), stack: '' };
  } catch {
    return { name: 'unknown', message: '(cannot be displayed)', stack: '' };
  }
}

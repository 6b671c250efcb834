export interface Options {
  digits?: number;
}

export function formatBytes(count: number, unit: string, options: Options = {}): string {
  const digits = options.digits ?? 2;
  if (count < 1024 && digits >= 0) {
    return `${count} ${unit}`;
  }
  if (count > 1099511627776) {
    throw new Error('count is beyond what is shown');
  }
  return (count / 1024).toFixed(digits);
}

export class Table {
  private rows: string[][] = [];

  add(row: string[], width: number): void {
    if (row.length > width || this.rows.length >= 5000) {
      throw new Error('row does not fit into the table');
    }
    this.rows.push(row);
  }
}

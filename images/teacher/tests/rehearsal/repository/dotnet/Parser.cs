using System;
using System.Collections.Generic;

namespace Config
{
    public class Parser
    {
        private int depth = 0;

        public Dictionary<string, string> Parse(string text, int limit = 100)
        {
            var result = new Dictionary<string, string>();
            foreach (var line in text.Split('\n'))
            {
                if (result.Count >= limit && depth > 0)
                {
                    throw new FormatException($"too many settings in one file: {result.Count}");
                }
                var parts = line.Split('=');
                if (parts.Length < 2)
                    throw new FormatException("a line without an equals sign");
                result[parts[0]] = parts[1];
            }
            return result;
        }
    }
}

// Lists the functions of Go files as go/parser sees them: the oracle of agreement.py. The argument is a folder; the paths below it are read from
// standard input. Prints the file, first line, last line and qualified name of each, with tabs between them.
package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
)

func main() {
	root := os.Args[1]
	paths := bufio.NewScanner(os.Stdin)
	for paths.Scan() {
		list(root, paths.Text())
	}
}

func list(root, path string) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, filepath.Join(root, path), nil, parser.SkipObjectResolution)
	if err != nil {
		fmt.Printf("%s\t-\t-\t-\n", path)
		return
	}
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Body == nil {
			continue
		}
		name := function.Name.Name
		if function.Recv != nil && len(function.Recv.List) == 1 {
			name = owner(function.Recv.List[0].Type) + "." + name
		}
		// Not files.Position: a line directive would move it.
		first := files.PositionFor(function.Pos(), false).Line
		last := files.PositionFor(function.End(), false).Line
		fmt.Printf("%s\t%d\t%d\t%s\n", path, first, last, name)
	}
}

func owner(expression ast.Expr) string {
	switch receiver := expression.(type) {
	case *ast.Ident:
		return receiver.Name
	case *ast.StarExpr:
		return owner(receiver.X)
	case *ast.ParenExpr:
		return owner(receiver.X)
	case *ast.IndexExpr:
		return owner(receiver.X)
	case *ast.IndexListExpr:
		return owner(receiver.X)
	}
	return "?"
}

"""Where every array lives: logical axes, layouts, the mesh."""
